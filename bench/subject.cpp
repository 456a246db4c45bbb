// The measured process, as a Boost.Asio program would be written: one io_context, one thread,
// asynchronous operations that start the next one when they complete. What it is asked, and what it
// prints, is as in subject.mjs.
//
//   g++ -std=c++17 -O2 -Wall -Wextra -o subject subject.cpp -lssl -lcrypto -lpthread
//   subject --task receive|send|both|echo|lives --port N --ca FILE --total N --warm N
//           --size N --connections N [--resume]

#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>

namespace asio = boost::asio;
namespace ssl = boost::asio::ssl;
using asio::ip::tcp;
using boost::system::error_code;
using Stream = ssl::stream<tcp::socket>;
using Done = std::function<void()>;

namespace {

constexpr std::size_t kReadSize = 64 * 1024;

void check(const error_code& error) {
  if (!error) return;
  std::fprintf(stderr, "subject: %s\n", error.message().c_str());
  std::exit(1);
}

double cpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

std::string request(const std::string& name, std::size_t total, std::size_t size) {
  std::string text = name + ' ' + std::to_string(total) + ' ' + std::to_string(size);
  text.resize(64, ' ');
  return text;
}

class Worker {
 public:
  Worker(asio::io_context& io, ssl::context& context, const tcp::endpoint& endpoint)
      : stream_(io, context), endpoint_(endpoint) {}

  SSL* ssl() { return stream_.native_handle(); }

  void open(Done done) {
    stream_.next_layer().async_connect(endpoint_, [this, done](error_code error) {
      check(error);
      stream_.next_layer().set_option(tcp::no_delay(true));
      stream_.async_handshake(ssl::stream_base::client, [done](error_code failed) {
        check(failed);
        done();
      });
    });
  }

  void run(const std::string& task, std::size_t total, std::size_t size, Done done) {
    message_.assign(size, 'x');
    const std::string name = task == "receive" ? "source" : task == "send" ? "sink" : task;
    request_ = request(name, total, size);
    asio::async_write(stream_, asio::buffer(request_), [=](error_code error, std::size_t) {
      check(error);
      if (task == "receive") {
        receive(total, done);
      } else if (task == "send") {
        send(total, [=] { receive(1, done); });
      } else if (task == "both") {
        auto left = std::make_shared<int>(2);
        const Done half = [=] {
          if (--*left == 0) done();
        };
        send(total, half);
        receive(total + 1, half);
      } else {
        echo(total, done);
      }
    });
  }

  void shutdown(Done done) {
    stream_.async_shutdown([this, done](error_code error) {
      // The load sends FIN right behind its close_notify; both are the good end.
      if (error && error != asio::error::eof) check(error);
      stream_.next_layer().close();
      done();
    });
  }

 private:
  void receive(std::size_t left, Done done) {
    stream_.async_read_some(asio::buffer(input_), [=](error_code error, std::size_t got) {
      check(error);
      if (got >= left) done();
      else receive(left - got, done);
    });
  }

  void send(std::size_t left, Done done) {
    asio::async_write(stream_, asio::buffer(message_), [=](error_code error, std::size_t) {
      check(error);
      if (message_.size() >= left) done();
      else send(left - message_.size(), done);
    });
  }

  void echo(std::size_t left, Done done) {
    asio::async_write(stream_, asio::buffer(message_), [=](error_code error, std::size_t) {
      check(error);
      asio::async_read(stream_, asio::buffer(input_, message_.size()),
                       [=](error_code failed, std::size_t) {
                         check(failed);
                         if (left <= 1) done();
                         else echo(left - 1, done);
                       });
    });
  }

  Stream stream_;
  tcp::endpoint endpoint_;
  std::string request_;
  std::vector<char> message_;
  std::vector<char> input_ = std::vector<char>(kReadSize);
};

class Bench {
 public:
  explicit Bench(std::map<std::string, std::string> options)
      : options_(std::move(options)),
        endpoint_(asio::ip::address_v4::loopback(), static_cast<unsigned short>(number("port"))) {
    context_.load_verify_file(options_["ca"]);
    context_.set_verify_mode(ssl::verify_peer);
  }

  void run() {
    const bool lives = options_["task"] == "lives";
    const std::size_t count = number("connections");
    if (!lives) {
      for (std::size_t i = 0; i < count; i++) {
        workers_.push_back(std::make_unique<Worker>(io_, context_, endpoint_));
        workers_.back()->open([] {});
      }
      turn();
    }
    const auto once = [&](std::size_t total) { lives ? live(total) : transfer(total); };
    once(number("warm"));
    const double cpu = cpuSeconds();
    const auto start = std::chrono::steady_clock::now();
    once(number("total"));
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
    std::printf("{\"amount\":%zu,\"wall\":%.9f,\"cpu\":%.6f}\n", number("total"), wall.count(),
                cpuSeconds() - cpu);
  }

 private:
  std::size_t number(const std::string& name) {
    return std::strtoull(options_[name].c_str(), nullptr, 10);
  }

  void turn() {
    io_.run();
    io_.restart();
  }

  void transfer(std::size_t total) {
    for (auto& worker : workers_)
      worker->run(options_["task"], total / workers_.size(), number("size"), [] {});
    turn();
  }

  void live(std::size_t total) {
    std::size_t left = total;
    std::function<void()> next = [&] {
      if (left == 0) return;
      left--;
      auto worker = std::make_shared<Worker>(io_, context_, endpoint_);
      if (session_ != nullptr) SSL_set_session(worker->ssl(), session_);
      worker->open([this, worker, &next] {
        worker->shutdown([this, worker, &next] {
          // A shut-down stream has read the tickets that came before close_notify.
          if (options_.count("resume") != 0 && session_ == nullptr)
            session_ = SSL_get1_session(worker->ssl());
          next();
        });
      });
    };
    // The first life alone, for the session that the others resume.
    if (options_.count("resume") != 0 && session_ == nullptr) {
      const std::size_t wanted = left;
      left = 1;
      next();
      turn();
      left = wanted;
    }
    for (std::size_t i = 0; i < number("connections"); i++) next();
    turn();
  }

  std::map<std::string, std::string> options_;
  asio::io_context io_{1};
  ssl::context context_{ssl::context::tls_client};
  tcp::endpoint endpoint_;
  std::vector<std::unique_ptr<Worker>> workers_;
  SSL_SESSION* session_ = nullptr;
};

}  // namespace

int main(int argc, char** argv) {
  std::map<std::string, std::string> options;
  for (int i = 1; i < argc; i++) {
    const std::string name = std::string(argv[i]).substr(2);
    const bool alone = name == "resume" || i + 1 == argc;
    options[name] = alone ? "" : argv[++i];
  }
  Bench(options).run();
}
