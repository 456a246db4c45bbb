// A TLS 1.3 peer that changes its keys in the middle of what it says.
//
//   g++ -std=c++17 -O1 -Wall -Wextra -o keyupdate keyupdate.cpp -lssl -lcrypto -lpthread
//
//   keyupdate --cert FILE --key FILE --says HEX,HEX,HEX --hears N
//
// Theory of operation
//
// Node cannot be told to send a KeyUpdate (RFC 9846 section 4.6); OpenSSL can. This program listens on
// a free port of loopback, prints {"event":"listening","port":N}, and holds one conversation on each
// connection, whichever TLS role it is asked to play. The first line on a connection is in the clear and
// asks for that:
//
//   server|client first|second SLOT ID
//
// 'first' closes as soon as it has heard N bytes, 'second' once the other one has closed. As a client it
// keeps the first session that it is given in SLOT, and resumes it on each later connection that names
// that slot, so that all of those look alike.
//
// It says the first piece, sends KeyUpdate with update_requested, says the second piece, sends KeyUpdate
// with update_not_requested, and says the rest. When the connection is over it prints what it saw:
//
//   {"id":ID,"heard":HEX,"clean":BOOL,"closed":BOOL,"written":N,
//    "sent":[N,N],"got":[N,N],"error":TEXT}
//
// clean: the other one's close_notify came. closed: its own was sent. written: bytes that the kernel took.
// sent and got: KeyUpdate messages, with update_not_requested and with update_requested, as OpenSSL's
// message callback counts them.
//
// End of stdin ends the program, so that it cannot outlive whoever started it.

#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

// Nobody waits longer than this for anything. In seconds.
constexpr int kPatience = 15;

struct Options {
  std::string cert, key;
  std::vector<std::string> says;
  std::size_t hears = 0;
};

struct Report {
  std::string heard, error;
  bool clean = false, closed = false;
  unsigned long long written = 0;
  int sent[2] = {0, 0}, got[2] = {0, 0};
};

struct Ask {
  bool server = false, first = false;
  int slot = 0;
  long id = 0;
};

Options options;
SSL_CTX* server_context = nullptr;
SSL_CTX* client_context = nullptr;

std::mutex sessions_lock, print_lock;
std::map<int, SSL_SESSION*> sessions;

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "keyupdate: %s\n", what);
  ERR_print_errors_fp(stderr);
  std::_Exit(1);
}

void print(const std::string& line) {
  std::lock_guard<std::mutex> lock(print_lock);
  std::fputs((line + '\n').c_str(), stdout);
  std::fflush(stdout);
}

std::string to_hex(const std::string& bytes) {
  std::string out;
  char two[3];
  for (unsigned char byte : bytes) {
    std::snprintf(two, sizeof two, "%02x", byte);
    out += two;
  }
  return out;
}

std::string from_hex(const std::string& hex) {
  std::string out;
  for (std::size_t at = 0; at + 1 < hex.size(); at += 2)
    out += static_cast<char>(std::stoi(hex.substr(at, 2), nullptr, 16));
  return out;
}

// --- what OpenSSL tells -----------------------------------------------------

void on_message(int written, int, int type, const void* bytes, size_t length, SSL* ssl, void*) {
  const auto* body = static_cast<const unsigned char*>(bytes);
  // A handshake message of its own: type, three bytes of length, and the one byte of the request.
  if (type != SSL3_RT_HANDSHAKE || length != 5 || body[0] != SSL3_MT_KEY_UPDATE || body[4] > 1) return;
  auto* report = static_cast<Report*>(SSL_get_app_data(ssl));
  (written ? report->sent : report->got)[body[4]]++;
}

int slot_index = -1;

int on_session(SSL* ssl, SSL_SESSION* session) {
  const auto slot = reinterpret_cast<std::intptr_t>(SSL_get_ex_data(ssl, slot_index));
  std::lock_guard<std::mutex> lock(sessions_lock);
  SSL_SESSION*& kept = sessions[static_cast<int>(slot)];
  // A copy: OpenSSL will not resume a session again once a connection with it has failed.
  if (kept == nullptr) kept = SSL_SESSION_dup(session);
  return 0;
}

// --- one conversation -------------------------------------------------------

void check(SSL* ssl, int result, const char* call) {
  if (result > 0) return;
  const int why = SSL_get_error(ssl, result);
  const char* reason = ERR_reason_error_string(ERR_peek_error());
  throw std::runtime_error(std::string(call) + ": " + std::to_string(why) + ' ' + (reason ? reason : ""));
}

void update_keys(SSL* ssl, int type) {
  check(ssl, SSL_key_update(ssl, type), "SSL_key_update");
  // Now, rather than in front of the next piece.
  check(ssl, SSL_do_handshake(ssl), "SSL_do_handshake");
}

void say(SSL* ssl, const std::string& piece) {
  check(ssl, SSL_write(ssl, piece.data(), static_cast<int>(piece.size())), "SSL_write");
}

// Returns false at the other one's close_notify.
bool hear(SSL* ssl, Report& report) {
  char bytes[4096];
  const int count = SSL_read(ssl, bytes, sizeof bytes);
  if (count <= 0 && SSL_get_error(ssl, count) == SSL_ERROR_ZERO_RETURN) {
    report.clean = true;
    return false;
  }
  check(ssl, count, "SSL_read");
  report.heard.append(bytes, static_cast<std::size_t>(count));
  return true;
}

void close_tls(SSL* ssl, Report& report) {
  const int result = SSL_shutdown(ssl);
  if (result < 0) check(ssl, result, "SSL_shutdown");
  report.closed = true;
}

void converse(SSL* ssl, const Ask& ask, Report& report) {
  check(ssl, ask.server ? SSL_accept(ssl) : SSL_connect(ssl), "handshake");
  for (std::size_t index = 0; index < options.says.size(); index++) {
    if (index == 1) update_keys(ssl, SSL_KEY_UPDATE_REQUESTED);
    if (index == 2) update_keys(ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
    say(ssl, options.says[index]);
  }
  bool open = true;
  while (open && (!ask.first || report.heard.size() < options.hears)) open = hear(ssl, report);
  close_tls(ssl, report);
  while (open) open = hear(ssl, report);
}

// A socket that is closed with unread bytes sends RST, which may overtake what was said.
void close_socket(int fd) {
  char bytes[4096];
  shutdown(fd, SHUT_WR);
  while (recv(fd, bytes, sizeof bytes, 0) > 0) {
  }
  close(fd);
}

bool read_ask(int fd, Ask& ask) {
  std::string line;
  char byte;
  while (recv(fd, &byte, 1, 0) == 1 && byte != '\n') line += byte;
  std::istringstream words(line);
  std::string role, turn;
  if (!(words >> role >> turn >> ask.slot >> ask.id)) return false;
  ask.server = role == "server";
  ask.first = turn == "first";
  return true;
}

void serve(int fd) {
  Ask ask;
  if (!read_ask(fd, ask)) {
    close(fd);
    return;
  }
  Report report;
  SSL* ssl = SSL_new(ask.server ? server_context : client_context);
  if (ssl == nullptr || SSL_set_fd(ssl, fd) != 1) die("SSL_new");
  SSL_set_app_data(ssl, &report);
  SSL_set_ex_data(ssl, slot_index, reinterpret_cast<void*>(static_cast<std::intptr_t>(ask.slot)));
  BIO* socket = SSL_get_wbio(ssl);
  if (!ask.server) {
    SSL_set_tlsext_host_name(ssl, "localhost");
    std::lock_guard<std::mutex> lock(sessions_lock);
    const auto found = sessions.find(ask.slot);
    if (found != sessions.end()) {
      SSL_SESSION* copy = SSL_SESSION_dup(found->second);
      SSL_set_session(ssl, copy);
      SSL_SESSION_free(copy);
    }
  }
  ERR_clear_error();
  try {
    converse(ssl, ask, report);
  } catch (const std::exception& error) {
    report.error = error.what();
  }
  report.written = BIO_number_written(socket);
  SSL_free(ssl);
  // First: whoever waits for the report may hold the other end open.
  std::ostringstream line;
  line << "{\"id\":" << ask.id << ",\"heard\":\"" << to_hex(report.heard) << "\",\"clean\":"
       << (report.clean ? "true" : "false") << ",\"closed\":" << (report.closed ? "true" : "false")
       << ",\"written\":" << report.written << ",\"sent\":[" << report.sent[0] << ',' << report.sent[1]
       << "],\"got\":[" << report.got[0] << ',' << report.got[1] << "],\"error\":\"" << report.error
       << "\"}";
  print(line.str());
  close_socket(fd);
}

// --- the program ------------------------------------------------------------

SSL_CTX* context(const SSL_METHOD* method) {
  SSL_CTX* made = SSL_CTX_new(method);
  if (made == nullptr || !SSL_CTX_set_min_proto_version(made, TLS1_3_VERSION) ||
      !SSL_CTX_set_ciphersuites(made, "TLS_AES_128_GCM_SHA256") ||
      !SSL_CTX_set1_groups_list(made, "P-256"))
    die("SSL_CTX_new");
  SSL_CTX_set_msg_callback(made, on_message);
  return made;
}

void make_contexts() {
  server_context = context(TLS_server_method());
  if (SSL_CTX_use_certificate_file(server_context, options.cert.c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_use_PrivateKey_file(server_context, options.key.c_str(), SSL_FILETYPE_PEM) != 1)
    die("certificate");
  client_context = context(TLS_client_method());
  // Who the server is does not matter here.
  SSL_CTX_set_verify(client_context, SSL_VERIFY_NONE, nullptr);
  SSL_CTX_set_session_cache_mode(client_context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(client_context, on_session);
  slot_index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
}

void parse(int argc, char** argv) {
  for (int at = 1; at + 1 < argc; at += 2) {
    const std::string name = argv[at], value = argv[at + 1];
    if (name == "--cert") options.cert = value;
    else if (name == "--key") options.key = value;
    else if (name == "--hears") options.hears = std::stoul(value);
    else if (name == "--says") {
      std::istringstream pieces(value);
      for (std::string piece; std::getline(pieces, piece, ',');) options.says.push_back(from_hex(piece));
    } else die(("unknown option " + name).c_str());
  }
  if (options.cert.empty() || options.key.empty() || options.says.size() < 3) die("options are missing");
}

int main(int argc, char** argv) {
  parse(argc, argv);
  std::signal(SIGPIPE, SIG_IGN);
  make_contexts();
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (bind(listener, generic, size) != 0 || listen(listener, 128) != 0 ||
      getsockname(listener, generic, &size) != 0)
    die("listen");
  print("{\"event\":\"listening\",\"port\":" + std::to_string(ntohs(address.sin_port)) + "}");
  pollfd waiting[2] = {{listener, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
  for (;;) {
    if (poll(waiting, 2, -1) < 0) continue;
    if (waiting[1].revents != 0) {
      char byte;
      if (read(STDIN_FILENO, &byte, 1) <= 0) std::_Exit(0);
    }
    if ((waiting[0].revents & POLLIN) == 0) continue;
    const int fd = accept(listener, nullptr, nullptr);
    if (fd < 0) continue;
    const int on = 1;
    const timeval patience{kPatience, 0};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    std::thread(serve, fd).detach();
  }
}
