// One end of a TLS connection, played by Boost.Asio and driven line by line.
//
//   g++ -std=c++17 -O1 -Wall -Wextra -o party party.cpp -lssl -lcrypto -lpthread
//
//   party --role client|server --tls 1.2|1.3 [--host 127.0.0.1] [--port N]
//         [--cert FILE --key FILE] [--ca FILE]
//
// Theory of operation
//
// The question this program answers is "what does a Boost.Asio application see
// when the other end finishes in this or that way?", so it adds nothing of its
// own to Asio: every command is the one Asio call it is named after, and what
// is printed is the error_code that Asio passed to the handler.
//
// Commands come on stdin, one per line. Each starts an asynchronous operation
// on a single-threaded io_context and does not wait for it, so several can be
// pending at once. A completed operation prints one JSON line on stdout:
//
//   {"op":"read","id":2,"category":"system","value":0,"message":"Success",...}
//
// "id" is the number of the command's line on stdin, from 1. Success is value 0.
//
//   handshake          connect or accept, then async_handshake   + "protocol"
//   write TEXT         async_write of the rest of the line       + "bytes"
//   write-bytes N      async_write of N bytes, byte i = i % 251  + "bytes"
//   read               one async_read_some, 64 KB    + "bytes", maybe "text"
//   read-all           async_read_some until it fails + "bytes", maybe "text"
//   shutdown           async_shutdown
//   shutdown-no-wait   async_shutdown, an async_write behind it, close; prints
//                      a second line, with "op":"shutdown-no-wait-write"
//   cancel             lowest_layer().cancel()
//   close              lowest_layer().close()
//   half-close         lowest_layer().shutdown(send): a FIN and nothing else
//   reset              SO_LINGER 0, then lowest_layer().close(): an RST
//   plain-write TEXT   async_write on next_layer(), past TLS     + "bytes"
//   plain-read         async_read_some on next_layer()  + "bytes", maybe "text"
//   exit               ends the program at once, with status 0
//
// "text" is there when fewer than 4096 bytes were read and all are printable
// ASCII (or tab, CR, LF). A line that is no command prints
// {"op":"error","id":K,"message":"..."}, and the next one is taken.
//
// A server prints {"event":"listening","port":N} first of all. End of stdin
// ends the program like `exit`, so that it cannot outlive whoever started it.

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <unistd.h>

// Only what is used, not <boost/asio.hpp>: this file is compiled in a test run.
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/write.hpp>

namespace asio = boost::asio;
namespace ssl = boost::asio::ssl;
using asio::ip::tcp;
using boost::system::error_code;

// Asio makes a set of templates anew for each type of handler. Wrapping every
// handler in one of these two types keeps that to one set per operation, which
// is a good part of the compile time.
using Handler = std::function<void(error_code)>;
using TransferHandler = std::function<void(error_code, std::size_t)>;

constexpr std::size_t kReadSize = 64 * 1024;
constexpr std::size_t kTextLimit = 4096;

struct Options {
  bool server = false;
  int tls = 0;
  std::string host = "127.0.0.1";
  unsigned short port = 0;
  std::string cert, key, ca;
};

// --- JSON -------------------------------------------------------------------

// Bytes outside ASCII are written as the code point of the same number: they
// can only come from an unknown command, and need not be valid UTF-8.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (unsigned char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += static_cast<char>(c);
    } else if (c < 0x20 || c > 0x7e) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", c);
      out += escape;
    } else {
      out += static_cast<char>(c);
    }
  }
  return out + '"';
}

void print(const std::string& line) {
  std::fputs((line + '\n').c_str(), stdout);
  std::fflush(stdout);
}

bool printable(const std::string& text) {
  for (unsigned char c : text)
    if ((c < 0x20 || c > 0x7e) && c != '\t' && c != '\r' && c != '\n') return false;
  return true;
}

std::string bytesField(std::size_t bytes) {
  return ",\"bytes\":" + std::to_string(bytes);
}

// `head` is what was read, or at least its first kTextLimit bytes.
std::string readFields(std::size_t bytes, const std::string& head) {
  std::string fields = bytesField(bytes);
  if (bytes < kTextLimit && printable(head)) fields += ",\"text\":" + quoted(head);
  return fields;
}

// --- The party --------------------------------------------------------------

class Party {
 public:
  explicit Party(const Options& options)
      : options_(options),
        context_(makeContext(options)),
        stream_(io_, context_),
        acceptor_(io_),
        stdin_(io_, STDIN_FILENO) {
    if (options.server) {
      acceptor_ = tcp::acceptor(io_, endpoint());
      print("{\"event\":\"listening\",\"port\":" +
            std::to_string(acceptor_.local_endpoint().port()) + "}");
    } else {
      SSL_set_tlsext_host_name(stream_.native_handle(), "localhost");
    }
  }

  void run() {
    readCommands();
    io_.run();
  }

 private:
  static ssl::context makeContext(const Options& options) {
    ssl::context context(ssl::context::tls);
    const int version = options.tls == 12 ? TLS1_2_VERSION : TLS1_3_VERSION;
    SSL_CTX_set_min_proto_version(context.native_handle(), version);
    SSL_CTX_set_max_proto_version(context.native_handle(), version);
    if (!options.cert.empty()) context.use_certificate_chain_file(options.cert);
    if (!options.key.empty()) context.use_private_key_file(options.key, ssl::context::pem);
    if (!options.ca.empty()) {
      context.load_verify_file(options.ca);
      context.set_verify_mode(ssl::verify_peer);
      // A server that is given --ca asks for a client certificate, and there is
      // no name to hold that one against.
      if (!options.server)
        context.set_verify_callback(ssl::host_name_verification("localhost"));
    } else {
      context.set_verify_mode(ssl::verify_none);
    }
    return context;
  }

  tcp::endpoint endpoint() const {
    return {asio::ip::make_address(options_.host), options_.port};
  }

  // --- Commands in ---

  void readCommands() {
    stdin_.async_read_some(
        asio::buffer(chunk_), TransferHandler([this](error_code ec, std::size_t n) {
          if (ec) {
            // End of file, or a stdin that cannot be read: nobody is in charge.
            io_.stop();
            return;
          }
          input_.append(chunk_, n);
          runNextLine();
        }));
  }

  // Lines that arrive together are run one per turn of the event loop, not in
  // one go: a cancel in the same turn as an async_shutdown whose close_notify
  // the kernel took at once finds nothing pending, and cancels nothing. The same
  // happens whenever a step of an operation has just completed (a TLS 1.3 client
  // that still has session tickets to read is one case), so a script that means
  // to cancel a *waiting* operation should leave it time to get there.
  void runNextLine() {
    const std::size_t end = input_.find('\n');
    if (end == std::string::npos) {
      readCommands();
      return;
    }
    const std::string line = input_.substr(0, end);
    input_.erase(0, end + 1);
    runCommand(++lastId_, line);
    asio::post(io_, std::function<void()>([this] { runNextLine(); }));
  }

  void runCommand(unsigned id, const std::string& line) {
    const std::size_t space = line.find(' ');
    const std::string op = line.substr(0, space);
    const std::string rest = space == std::string::npos ? "" : line.substr(space + 1);

    if (op == "handshake") {
      handshake(id);
    } else if (op == "write") {
      write(stream_, op, id, rest);
    } else if (op == "write-bytes") {
      if (const auto data = pattern(rest)) write(stream_, op, id, *data);
      else refuse(id, "not a number of bytes: " + rest);
    } else if (op == "read") {
      read(stream_, op, id);
    } else if (op == "read-all") {
      readAll(id);
    } else if (op == "shutdown") {
      stream_.async_shutdown(Handler([=](error_code ec) { report(op, id, ec); }));
    } else if (op == "shutdown-no-wait") {
      shutdownNoWait(id);
    } else if (op == "cancel") {
      error_code ec;
      stream_.lowest_layer().cancel(ec);
      report(op, id, ec);
    } else if (op == "close") {
      // The peer gets a FIN, unless bytes that we have not read are waiting in
      // the kernel: then Linux sends an RST in place of it.
      error_code ec;
      stream_.lowest_layer().close(ec);
      report(op, id, ec);
    } else if (op == "half-close") {
      error_code ec;
      stream_.lowest_layer().shutdown(tcp::socket::shutdown_send, ec);
      report(op, id, ec);
    } else if (op == "reset") {
      error_code ec;
      stream_.lowest_layer().set_option(tcp::socket::linger(true, 0), ec);
      if (!ec) stream_.lowest_layer().close(ec);
      report(op, id, ec);
    } else if (op == "plain-write") {
      write(stream_.next_layer(), op, id, rest);
    } else if (op == "plain-read") {
      // Finds only what the kernel still holds. ssl::stream reads ahead, and
      // plaintext it took in together with the close_notify stays inside it.
      read(stream_.next_layer(), op, id);
    } else if (op == "exit") {
      report(op, id, error_code());
      io_.stop();
    } else {
      refuse(id, "unknown command: " + line);
    }
  }

  // --- Results out ---

  void report(const std::string& op, unsigned id, error_code ec,
              const std::string& fields = "") {
    print("{\"op\":" + quoted(op) + ",\"id\":" + std::to_string(id) +
          ",\"category\":" + quoted(ec.category().name()) +
          ",\"value\":" + std::to_string(ec.value()) +
          ",\"message\":" + quoted(ec.message()) + fields + "}");
  }

  void refuse(unsigned id, const std::string& message) {
    print("{\"op\":\"error\",\"id\":" + std::to_string(id) +
          ",\"message\":" + quoted(message) + "}");
  }

  // --- Operations ---

  void handshake(unsigned id) {
    const Handler transportIsUp = [=](error_code ec) {
      if (options_.server) {
        error_code ignored;
        acceptor_.close(ignored);  // one connection, and no more
      }
      if (ec) {
        report("handshake", id, ec);
        return;
      }
      stream_.async_handshake(
          options_.server ? ssl::stream_base::server : ssl::stream_base::client,
          Handler([=](error_code ec) {
            const char* protocol = SSL_get_version(stream_.native_handle());
            report("handshake", id, ec,
                   ec ? "" : ",\"protocol\":" + quoted(protocol));
          }));
    };
    if (options_.server) acceptor_.async_accept(stream_.lowest_layer(), transportIsUp);
    else stream_.lowest_layer().async_connect(endpoint(), transportIsUp);
  }

  template <typename Stream>
  void write(Stream& stream, const std::string& op, unsigned id, const std::string& text) {
    const auto data = std::make_shared<std::string>(text);
    asio::async_write(stream, asio::buffer(*data),
                      TransferHandler([=](error_code ec, std::size_t n) {
                        (void)data;  // kept alive until here
                        report(op, id, ec, bytesField(n));
                      }));
  }

  template <typename Stream>
  void read(Stream& stream, const std::string& op, unsigned id) {
    const auto data = std::make_shared<std::string>(kReadSize, '\0');
    stream.async_read_some(asio::buffer(*data),
                           TransferHandler([=](error_code ec, std::size_t n) {
                             report(op, id, ec, readFields(n, data->substr(0, n)));
                           }));
  }

  struct ReadAll {
    unsigned id;
    std::size_t bytes = 0;
    std::string head;
    std::vector<char> buffer = std::vector<char>(kReadSize);
  };

  void readAll(unsigned id) {
    const auto state = std::make_shared<ReadAll>();
    state->id = id;
    readMore(state);
  }

  void readMore(const std::shared_ptr<ReadAll>& state) {
    stream_.async_read_some(
        asio::buffer(state->buffer), TransferHandler([=](error_code ec, std::size_t n) {
          state->bytes += n;
          if (state->bytes < kTextLimit) state->head.append(state->buffer.data(), n);
          if (ec) report("read-all", state->id, ec, readFields(state->bytes, state->head));
          else readMore(state);
        }));
  }

  // Asio's async_shutdown always waits for the peer's close_notify. The usual
  // way round that is a write started right behind it: OpenSSL refuses it, for
  // our side of TLS is shut down by then, and that refusal (protocol is
  // shutdown) is taken to mean that the close_notify has been handed to the
  // kernel. Closing the transport then ends the wait, with an error. It means no
  // such thing while an earlier write is still on its way to the kernel: the
  // close_notify then waits behind that one, and is lost with the transport.
  void shutdownNoWait(unsigned id) {
    stream_.async_shutdown(
        Handler([=](error_code ec) { report("shutdown-no-wait", id, ec); }));
    // It must not be empty: Asio would complete that without asking OpenSSL.
    static const char byte[1] = {};
    asio::async_write(stream_, asio::buffer(byte),
                      TransferHandler([=](error_code ec, std::size_t) {
                        report("shutdown-no-wait-write", id, ec);
                        error_code ignored;
                        stream_.lowest_layer().close(ignored);
                      }));
  }

  static std::optional<std::string> pattern(const std::string& count) {
    if (count.empty() || count.size() > 9 ||
        count.find_first_not_of("0123456789") != std::string::npos)
      return std::nullopt;
    std::string data(std::stoul(count), '\0');
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i % 251);
    return data;
  }

  const Options options_;
  asio::io_context io_{1};
  ssl::context context_;
  ssl::stream<tcp::socket> stream_;
  tcp::acceptor acceptor_;
  asio::posix::stream_descriptor stdin_;
  char chunk_[kReadSize];
  std::string input_;  // what was read of stdin and not yet run
  unsigned lastId_ = 0;
};

Options parse(int argc, char** argv) {
  Options options;
  bool haveRole = false;
  for (int i = 1; i < argc; i += 2) {
    const std::string name = argv[i];
    if (i + 1 == argc) throw std::invalid_argument("no value for " + name);
    const std::string value = argv[i + 1];
    if (name == "--role" && (value == "client" || value == "server")) {
      options.server = value == "server";
      haveRole = true;
    } else if (name == "--tls" && (value == "1.2" || value == "1.3")) {
      options.tls = value == "1.2" ? 12 : 13;
    } else if (name == "--host") {
      options.host = value;
    } else if (name == "--port") {
      options.port = static_cast<unsigned short>(std::stoul(value));
    } else if (name == "--cert") {
      options.cert = value;
    } else if (name == "--key") {
      options.key = value;
    } else if (name == "--ca") {
      options.ca = value;
    } else {
      throw std::invalid_argument("cannot make sense of " + name + " " + value);
    }
  }
  if (!haveRole || options.tls == 0) throw std::invalid_argument("--role and --tls are needed");
  if (options.server && (options.cert.empty() || options.key.empty()))
    throw std::invalid_argument("a server needs --cert and --key");
  return options;
}

int main(int argc, char** argv) {
  try {
    Party party(parse(argc, argv));
    party.run();
    return 0;
  } catch (const std::exception& e) {
    std::fprintf(stderr, "party: %s\n", e.what());
    return 2;
  }
}
