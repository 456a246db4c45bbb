// The other end of every measurement: the same process, doing the same work, for whoever is measured.
//
//   g++ -std=c++17 -O2 -Wall -Wextra -o load load.cpp -lssl -lcrypto -lpthread
//   load --cert FILE --key FILE [--tls 1.2|1.3] [--cipher NAME]
//
// Theory of operation
//
// What is measured should be the slower of the two ends, or the other one's speed is measured
// instead. So this is OpenSSL with nothing above it: blocking sockets, one thread a connection, large
// reads and writes. load.mjs does the same in plain node:tls where there is no compiler.
//
// It prints {"tls":PORT,"tcp":PORT} and serves both ports in the same way, with and without TLS. A
// connection carries requests of 64 bytes, padded with spaces:
//
//   source TOTAL SIZE   sends TOTAL bytes, one TLS record for each message of SIZE bytes (of 16 KB
//                       where SIZE is larger)
//   sink TOTAL          reads TOTAL bytes, then answers with one byte
//   both TOTAL SIZE     both at once, then one byte
//   echo COUNT SIZE     COUNT times: reads SIZE bytes, sends them back
//   mute                says and reads nothing more, until the client has gone
//   GET PATH HTTP/1.1   (not padded) a body of as many bytes as the path's digits say
//
// It answers close_notify with close_notify, then FIN, and reads on until the client's FIN.
//
// As a client it takes lines on stdin, and answers each with {"done":COUNT,"wall":SECONDS}:
//
//   hold PORT COUNT                        opens connections to PORT, and keeps them
//   release                                closes those
//   lives PORT COUNT CONCURRENCY RESUME    connect, handshake, shutdown both ways, close
//
// End of stdin ends the program, so that it cannot outlive whoever started it.

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kRequest = 64;
constexpr std::size_t kBuffer = 256 * 1024;

struct Gone : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A connected socket, with TLS or without, blocking.
class Connection {
 public:
  Connection(int fd, SSL* ssl) : fd_(fd), ssl_(ssl) {
    const int on = 1;
    setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (ssl_ == nullptr) return;
    SSL_set_fd(ssl_, fd_);
    SSL_set_read_ahead(ssl_, 1);
    SSL_set_default_read_buffer_len(ssl_, 128 * 1024);
  }
  ~Connection() {
    SSL_free(ssl_);
    ::close(fd_);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  SSL* ssl() const { return ssl_; }

  // Up to `size` bytes; 0 once the peer has closed.
  std::size_t readSome(void* data, std::size_t size) {
    const ssize_t got = ssl_ != nullptr ? SSL_read(ssl_, data, static_cast<int>(size))
                                        : ::recv(fd_, data, size, 0);
    if (got > 0) return static_cast<std::size_t>(got);
    if (ssl_ != nullptr && SSL_get_error(ssl_, static_cast<int>(got)) == SSL_ERROR_ZERO_RETURN)
      return 0;
    if (ssl_ == nullptr && got == 0) return 0;
    throw Gone("read");
  }

  bool readAll(void* data, std::size_t size) {
    auto* at = static_cast<char*>(data);
    while (size > 0) {
      const std::size_t got = readSome(at, size);
      if (got == 0) return false;
      at += got;
      size -= got;
    }
    return true;
  }

  void write(const void* data, std::size_t size) {
    if (ssl_ != nullptr) {
      if (SSL_write(ssl_, data, static_cast<int>(size)) <= 0) throw Gone("write");
      return;
    }
    const auto* at = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t sent = ::send(fd_, at, size, MSG_NOSIGNAL);
      if (sent <= 0) throw Gone("send");
      at += sent;
      size -= static_cast<std::size_t>(sent);
    }
  }

  // From here on records are gathered and leave in large writes, or at flush(). Not for both().
  void gather() {
    if (ssl_ == nullptr || gathering_) return;
    gathering_ = true;
    BIO* buffer = BIO_new(BIO_f_buffer());
    BIO_set_write_buffer_size(buffer, static_cast<long>(kBuffer));
    BIO* socket = SSL_get_wbio(ssl_);
    BIO_up_ref(socket);
    SSL_set0_wbio(ssl_, BIO_push(buffer, socket));
  }

  void flush() {
    if (gathering_ && BIO_flush(SSL_get_wbio(ssl_)) <= 0) throw Gone("flush");
  }

  // Reads `total` bytes and sends as many, whichever is possible.
  void both(std::size_t total, std::size_t size) {
    std::vector<char> in(kBuffer), out(size, 'x');
    std::size_t received = 0, sent = 0;
    if (ssl_ != nullptr)
      SSL_set_mode(ssl_, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    setBlocking(false);
    while (received < total || sent < total) {
      bool moved = false;
      if (received < total) {
        const ssize_t got = ssl_ != nullptr
                                ? SSL_read(ssl_, in.data(), static_cast<int>(in.size()))
                                : ::recv(fd_, in.data(), in.size(), 0);
        if (got > 0) {
          received += static_cast<std::size_t>(got);
          moved = true;
        } else {
          check(got);
        }
      }
      if (sent < total) {
        const std::size_t next = std::min(size, total - sent);
        const ssize_t gone = ssl_ != nullptr ? SSL_write(ssl_, out.data(), static_cast<int>(next))
                                             : ::send(fd_, out.data(), next, MSG_NOSIGNAL);
        if (gone > 0) {
          sent += static_cast<std::size_t>(gone);
          moved = true;
        } else {
          check(gone);
        }
      }
      if (moved) continue;
      pollfd wanted{fd_, static_cast<short>(POLLIN | (sent < total ? POLLOUT : 0)), 0};
      ::poll(&wanted, 1, -1);
    }
    setBlocking(true);
  }

  // Waits for the client's FIN, and a while longer: our own is no part of what is measured.
  void awaitGone() {
    pollfd wanted{fd_, POLLRDHUP, 0};
    ::poll(&wanted, 1, -1);
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    discardRest();
  }

  // Our close_notify and FIN, then the client's FIN.
  void sayGoodbye() {
    if (ssl_ != nullptr) {
      SSL_shutdown(ssl_);
      flush();
    }
    ::shutdown(fd_, SHUT_WR);
    discardRest();
  }

 private:
  // A socket that is closed with unread bytes sends RST instead of FIN.
  void discardRest() {
    char discarded[4096];
    while (::recv(fd_, discarded, sizeof discarded, 0) > 0) {
    }
  }

  void setBlocking(bool blocking) {
    const int flags = fcntl(fd_, F_GETFL);
    fcntl(fd_, F_SETFL, blocking ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
  }

  void check(ssize_t result) {
    if (ssl_ != nullptr) {
      const int error = SSL_get_error(ssl_, static_cast<int>(result));
      if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) throw Gone("both");
    } else if (result == 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
      throw Gone("both");
    }
  }

  int fd_;
  SSL* ssl_;
  bool gathering_ = false;
};

// ---- serving

void source(Connection& connection, std::size_t total, std::size_t size) {
  const std::vector<char> message(size, 'x');
  connection.gather();
  while (total > 0) {
    const std::size_t next = std::min(size, total);
    connection.write(message.data(), next);
    total -= next;
  }
  connection.flush();
}

void sink(Connection& connection, std::size_t total) {
  std::vector<char> buffer(kBuffer);
  while (total > 0) {
    const std::size_t got = connection.readSome(buffer.data(), std::min(buffer.size(), total));
    if (got == 0) throw Gone("closed early");
    total -= got;
  }
  connection.write("k", 1);
  connection.flush();
}

void echo(Connection& connection, std::size_t count, std::size_t size) {
  std::vector<char> buffer(size);
  for (; count > 0; count--) {
    if (!connection.readAll(buffer.data(), size)) throw Gone("closed early");
    connection.write(buffer.data(), size);
    connection.flush();
  }
}

// The rest of an HTTP request whose first 64 bytes are `head`, then its answer.
void http(Connection& connection, std::string head) {
  while (head.find("\r\n\r\n") == std::string::npos) {
    char more[4096];
    const std::size_t got = connection.readSome(more, sizeof more);
    if (got == 0) throw Gone("closed early");
    head.append(more, got);
  }
  const std::size_t digits = head.find_first_of("0123456789");
  const std::size_t length = std::strtoull(head.c_str() + digits, nullptr, 10);
  connection.gather();
  std::string answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " +
                       std::to_string(length) + "\r\n\r\n";
  const bool small = length <= 8192;
  if (small) answer.append(length, 'x');
  connection.write(answer.data(), answer.size());
  if (!small) source(connection, length, 64 * 1024);
  connection.flush();
}

void serve(Connection& connection) {
  char request[kRequest + 1] = {};
  while (connection.readAll(request, kRequest)) {
    std::istringstream words(request);
    std::string name;
    std::size_t total = 0, size = 0;
    words >> name >> total >> size;
    if (name == "source") source(connection, total, size);
    else if (name == "sink") sink(connection, total);
    else if (name == "both") {
      connection.both(total, size);
      connection.write("k", 1);
    } else if (name == "echo") echo(connection, total, size);
    else if (name == "mute") {
      connection.awaitGone();
      return;
    } else if (name == "GET") http(connection, request);
    else throw Gone("unknown request");
  }
  connection.sayGoodbye();
}

int listenOn(unsigned short& port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      ::listen(fd, 4096) != 0 ||
      ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    std::perror("listen");
    std::exit(1);
  }
  port = ntohs(address.sin_port);
  return fd;
}

void acceptOn(int listener, SSL_CTX* context) {
  for (;;) {
    const int fd = ::accept(listener, nullptr, nullptr);
    if (fd < 0) continue;
    std::thread([fd, context] {
      try {
        Connection connection(fd, context != nullptr ? SSL_new(context) : nullptr);
        if (connection.ssl() != nullptr && SSL_accept(connection.ssl()) != 1)
          throw Gone("handshake");
        serve(connection);
      } catch (const Gone&) {
        // The measured process notices by itself.
      }
      ERR_clear_error();
    }).detach();
  }
}

// ---- as a client

std::unique_ptr<Connection> connectTo(SSL_CTX* context, unsigned short port, SSL_SESSION* session) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  if (fd < 0 || ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    throw Gone("connect");
  auto connection = std::make_unique<Connection>(fd, SSL_new(context));
  if (session != nullptr) SSL_set_session(connection->ssl(), session);
  if (SSL_connect(connection->ssl()) != 1) throw Gone("handshake");
  return connection;
}

// The session to resume is the last one that the server gave before its close_notify.
SSL_SESSION* live(SSL_CTX* context, unsigned short port, SSL_SESSION* session) {
  auto connection = connectTo(context, port, session);
  if (session != nullptr && !SSL_session_reused(connection->ssl())) throw Gone("not resumed");
  SSL_shutdown(connection->ssl());
  char byte;
  while (connection->readSome(&byte, 1) > 0) {
  }
  return session != nullptr ? nullptr : SSL_get1_session(connection->ssl());
}

void lives(SSL_CTX* context, unsigned short port, int count, int concurrency, bool resume) {
  SSL_SESSION* session = resume ? live(context, port, nullptr) : nullptr;
  std::atomic<int> left{count};
  std::vector<std::thread> threads;
  for (int i = 0; i < concurrency; i++) {
    threads.emplace_back([&] {
      try {
        while (left-- > 0) SSL_SESSION_free(live(context, port, session));
      } catch (const Gone& gone) {
        std::fprintf(stderr, "load: a life failed: %s\n", gone.what());
        std::_Exit(1);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  SSL_SESSION_free(session);
}

SSL_CTX* makeContext(const SSL_METHOD* method, int version, const std::string& cipher) {
  SSL_CTX* context = SSL_CTX_new(method);
  SSL_CTX_set_min_proto_version(context, version);
  SSL_CTX_set_max_proto_version(context, version);
  if (!cipher.empty() && !(version == TLS1_3_VERSION
                               ? SSL_CTX_set_ciphersuites(context, cipher.c_str())
                               : SSL_CTX_set_cipher_list(context, cipher.c_str()))) {
    std::fprintf(stderr, "load: unknown cipher %s\n", cipher.c_str());
    std::exit(2);
  }
  return context;
}

}  // namespace

int main(int argc, char** argv) {
  std::string cert, key, cipher, tls = "1.3";
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    if (name == "--cert") cert = argv[i + 1];
    else if (name == "--key") key = argv[i + 1];
    else if (name == "--cipher") cipher = argv[i + 1];
    else if (name == "--tls") tls = argv[i + 1];
  }
  signal(SIGPIPE, SIG_IGN);
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);

  const int version = tls == "1.2" ? TLS1_2_VERSION : TLS1_3_VERSION;
  SSL_CTX* server = makeContext(TLS_server_method(), version, cipher);
  if (SSL_CTX_use_certificate_chain_file(server, cert.c_str()) != 1 ||
      SSL_CTX_use_PrivateKey_file(server, key.c_str(), SSL_FILETYPE_PEM) != 1) {
    ERR_print_errors_fp(stderr);
    return 1;
  }
  SSL_CTX* client = makeContext(TLS_client_method(), version, cipher);

  unsigned short tlsPort = 0, tcpPort = 0;
  const int tlsListener = listenOn(tlsPort), tcpListener = listenOn(tcpPort);
  std::thread(acceptOn, tlsListener, server).detach();
  std::thread(acceptOn, tcpListener, nullptr).detach();
  std::printf("{\"tls\":%d,\"tcp\":%d}\n", tlsPort, tcpPort);
  std::fflush(stdout);

  std::vector<std::unique_ptr<Connection>> held;
  std::string line;
  while (std::getline(std::cin, line)) {
    std::istringstream words(line);
    std::string name;
    int port = 0, count = 0, concurrency = 1, resume = 0;
    words >> name >> port >> count >> concurrency >> resume;
    const auto start = std::chrono::steady_clock::now();
    try {
      if (name == "hold") {
        for (int i = 0; i < count; i++)
          held.push_back(connectTo(client, static_cast<unsigned short>(port), nullptr));
      } else if (name == "release") {
        held.clear();
      } else if (name == "lives") {
        lives(client, static_cast<unsigned short>(port), count, concurrency, resume != 0);
      }
    } catch (const Gone& gone) {
      std::fprintf(stderr, "load: %s\n", gone.what());
      std::_Exit(1);
    }
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
    std::printf("{\"done\":%d,\"wall\":%.9f}\n", count, wall.count());
    std::fflush(stdout);
  }
  // Threads still run; there is nothing to tidy up that the system does not.
  std::_Exit(0);
}
