// What is fuzzed of the native engine: a Session at each end of a wire, without Node. By libFuzzer, on the system's
// OpenSSL; see prove/fuzz/part.ts for how it is built and run.
//
// Theory of operation. An input is one of two things, and its first byte says which.
//
// - A conversation: a list of steps. Both parties are here, their bytes go through this wire, and a step writes, closes,
//   delivers some bytes, or spoils them on their way. So whatever was spoilt, what each party said is known, and what
//   the other one claims is held against it.
// - A recording: what one party once sent, whole, to the other one, which is here. It is delivered in pieces, mutated.
//   Random numbers are the same in each run, so a recording that nobody has touched is a conversation that succeeds,
//   and a mutated one gets as far as its first changed byte.
//
// The corpus is made by the program itself (SESSION_FUZZ_RECORD=folder), since recordings fit one version of OpenSSL.
//
// Nothing here waits for time, and no two runs of an input differ.

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include "../src/peer.h"
#include "../src/session.h"

using close_notify::Bytes;
using close_notify::Cut;
using close_notify::Session;
using Status = Session::Status;

#define CHECK(condition) \
  do { \
    if (!(condition)) { \
      fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition); \
      abort(); \
    } \
  } while (false)

namespace {

// Random numbers that repeat ---------------------------------------------------------------------

/** Each party has numbers of its own: they do not depend on whether the other one is here. */
uint64_t own_numbers = 0x9e3779b97f4a7c15;
uint64_t* numbers = &own_numbers;

int RandomBytes(unsigned char* out, int length) {
  for (int at = 0; at < length; at++) {
    *numbers ^= *numbers << 13;
    *numbers ^= *numbers >> 7;
    *numbers ^= *numbers << 17;
    out[at] = static_cast<unsigned char>(*numbers >> 32);
  }
  return 1;
}

int RandomStatus() { return 1; }

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
void MakeRandomRepeat() {
  static const RAND_METHOD method = {nullptr,     RandomBytes,  nullptr,
                                     nullptr,     RandomBytes,  RandomStatus};
  CHECK(RAND_set_rand_method(&method) == 1);
}
#pragma GCC diagnostic pop

/** While it lives, random numbers are a party's. */
class Turn {
 public:
  explicit Turn(uint64_t* party) : before_(numbers) { numbers = party; }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() { numbers = before_; }

 private:
  uint64_t* const before_;
};

// Contexts ---------------------------------------------------------------------------------------

/** Two versions, and whether the client resumes. */
constexpr int kVersions[] = {TLS1_2_VERSION, TLS1_3_VERSION};

SSL_CTX* server_context = nullptr;
SSL_CTX* client_context = nullptr;
SSL_CTX* other_context = nullptr;
/** To resume, in DER: OpenSSL writes into an SSL_SESSION that is used, and no run may depend on another. */
std::string sessions[2];

void UseCertificate(SSL_CTX* context, const char* name) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  CHECK(key != nullptr && certificate != nullptr);
  CHECK(X509_set_version(certificate, X509_VERSION_3) == 1);
  CHECK(ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1);
  CHECK(ASN1_TIME_set_string(X509_getm_notBefore(certificate), "20200101000000Z") == 1);
  CHECK(ASN1_TIME_set_string(X509_getm_notAfter(certificate), "20400101000000Z") == 1);
  CHECK(X509_set_pubkey(certificate, key) == 1);
  X509_NAME* subject = X509_get_subject_name(certificate);
  CHECK(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                                   reinterpret_cast<const unsigned char*>(name), -1, -1, 0) == 1);
  CHECK(X509_set_issuer_name(certificate, subject) == 1);
  CHECK(X509_sign(certificate, key, EVP_sha256()) > 0);
  CHECK(SSL_CTX_use_certificate(context, certificate) == 1);
  CHECK(SSL_CTX_use_PrivateKey(context, key) == 1);
  CHECK(SSL_CTX_add_client_CA(context, certificate) == 1);
  X509_free(certificate);
  EVP_PKEY_free(key);
}

SSL_CTX* MakeContext(const char* name) {
  SSL_CTX* context = SSL_CTX_new(TLS_method());
  CHECK(context != nullptr);
  CHECK(SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1);
  UseCertificate(context, name);
  Session::Prepare(context);
  SSL_CTX_set_session_cache_mode(
      context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL);
  const unsigned char id[] = "fuzz";
  CHECK(SSL_CTX_set_session_id_context(context, id, sizeof id) == 1);
  SSL_CTX_set_options(context, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
  return context;
}

// A party ----------------------------------------------------------------------------------------

/** How a conversation is set up: bits of the second byte of an input. */
enum Setup : uint8_t {
  kTls13 = 1,
  kResumes = 2,
  kAsksClient = 4,
  kServerSuspends = 8,
  kClientSuspends = 16,
  kAlpn = 32,
  kOtherIdentity = 64,
};

constexpr uint8_t kProtocols[] = {2, 'h', '2', 8, 'h', 't', 't', 'p', '/', '1', '.', '1'};

/** The byte that a party has at this place of all that it says. */
uint8_t Said(bool server, size_t at) {
  return static_cast<uint8_t>(at * 7 + (at >> 8) + (server ? 101 : 3));
}

class Party final : public Session::Events {
 public:
  Party(bool server, uint8_t setup)
      : server_(server), setup_(setup), numbers_(server ? 0x2545f4914f6cdd1d : 0x9e3779b97f4a7c15) {
    const Turn turn(&numbers_);
    CHECK(session_.Init(server ? server_context : client_context, server, this, &output_));
    SSL* ssl = session_.ssl();
    const int version = kVersions[setup & kTls13 ? 1 : 0];
    CHECK(SSL_set_min_proto_version(ssl, version) == 1);
    CHECK(SSL_set_max_proto_version(ssl, version) == 1);
    const int mode = server ? (setup & kAsksClient ? SSL_VERIFY_PEER : SSL_VERIFY_NONE)
                            : SSL_VERIFY_NONE;
    SSL_set_verify(ssl, mode, [](int, X509_STORE_CTX*) { return 1; });
    if (server) return;
    CHECK(SSL_set_tlsext_host_name(ssl, "fuzz.example") == 1);
    if (setup & kAlpn) CHECK(SSL_set_alpn_protos(ssl, kProtocols, sizeof kProtocols) == 0);
    if (setup & kResumes) {
      const std::string& der = sessions[setup & kTls13 ? 1 : 0];
      const uint8_t* bytes = reinterpret_cast<const uint8_t*>(der.data());
      SSL_SESSION* session = d2i_SSL_SESSION(nullptr, &bytes, static_cast<long>(der.size()));
      CHECK(session != nullptr && SSL_set_session(ssl, session) == 1);
      SSL_SESSION_free(session);
    }
  }

  ~Party() {
    // What is freed tells nothing.
    gone_ = true;
  }

  /** Gives it bytes, behind those that it has not taken. */
  void Deliver(const uint8_t* data, size_t length) {
    unfed_.append(reinterpret_cast<const char*>(data), length);
    Go();
  }

  /** Lets it go on, as Connection::Pump does. */
  void Go() {
    if (over_ || suspended_) return;
    const Turn turn(&numbers_);
    const std::string input = std::move(unfed_);
    unfed_.clear();
    session_.SetInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
    Status status = Status::kMore;
    if (!session_.established()) {
      status = session_.Handshake();
      Checked(status);
      if (session_.established()) OnSecure();
    }
    while (session_.established()) {
      uint8_t plain[16384];
      size_t length = 0;
      status = session_.Read(plain, sizeof plain, &length);
      Checked(status);
      if (status != Status::kData) break;
      CHECK(length > 0 && length <= sizeof plain);
      for (size_t at = 0; at < length; at++) CHECK(plain[at] == Said(!server_, heard_ + at));
      heard_ += length;
    }
    CHECK(session_.rest() <= input.size());
    unfed_.assign(reinterpret_cast<const char*>(session_.rest_data()), session_.rest());
    taken_.append(input, 0, input.size() - session_.rest());
    session_.SetInput(nullptr, 0);
    if (status == Status::kSuspended) suspended_ = true;
    if (status == Status::kClosed || status == Status::kFailed) OnOver(status);
    if (!over_ || closed_) Write();
  }

  void Say(size_t length) {
    if (!closes_) wanted_ += length;
    Write();
  }

  void Close() {
    closes_ = true;
    Write();
  }

  void UpdateKeys(bool request) {
    if (suspended_ || failed_) return;
    const Turn turn(&numbers_);
    (void)session_.UpdateKeys(request);
    CheckQueue();
  }

  void Renegotiate() {
    if (suspended_ || over_ || !session_.established() || closes_) return;
    const Turn turn(&numbers_);
    (void)SSL_renegotiate(session_.ssl());
    ERR_clear_error();
    Go();
  }

  /** The certificate is there, or is refused. */
  void Proceed(bool given) {
    if (!suspended_) return;
    suspended_ = false;
    answer_ = given ? 1 : 0;
    if (given && setup_ & kOtherIdentity) {
      CHECK(close_notify::UseIdentity(session_.ssl(), other_context, server_));
    }
    CheckQueue();
    Go();
  }

  void FreeBuffers() {
    session_.FreeBuffers();
    CheckQueue();
  }

  /** What it has sent since the last call. */
  std::string TakeOutput() {
    std::string sent(reinterpret_cast<const char*>(output_.data()), output_.size());
    output_.Consume(sent.size());
    return sent;
  }

  bool established() const { return session_.established(); }
  bool resumed() const { return SSL_session_reused(session_.ssl()) == 1; }
  bool over() const { return over_; }
  bool failed() const { return failed_; }
  bool suspended() const { return suspended_; }
  bool closed() const { return closed_; }
  /** close_notify is in the output. */
  bool said_close() const { return said_close_; }
  bool told_close() const { return told_close_; }
  /** Bytes of plaintext that it was given, that it has encrypted, and that it has decrypted. */
  size_t wanted() const { return wanted_; }
  size_t said() const { return said_; }
  size_t heard() const { return heard_; }
  bool cut_off() const { return closed_ && !said_close_ && SSL_in_init(session_.ssl()); }
  const std::string& taken() const { return taken_; }
  /** For whoever reads why something broke. */
  std::string State() const {
    const auto flag = [](const char* name, bool is) { return is ? std::string(name) + " " : ""; };
    return flag("established", established()) + flag("over", over_) + flag("failed", failed_) +
           flag("closed", closed_) + flag("suspended", suspended_) + flag("closes", closes_) +
           flag("said-close", said_close_) + flag("in-handshake", SSL_in_init(session_.ssl())) +
           std::to_string(said_) + " of " + std::to_string(wanted_) + " said, " + std::to_string(heard_) +
           " heard, " + std::to_string(unfed_.size()) + " not fed; " + session_.failure().message;
  }
  Cut cut() const { return session_.cut(); }

 private:
  void OnAlert(bool sent, uint8_t level, uint8_t description, bool authenticated) override {
    CHECK(!gone_);
    if (!authenticated || description != 0 || level != 1) return;
    // Once each way.
    bool& told = sent ? told_close_ : heard_close_;
    CHECK(!told);
    told = true;
  }
  void OnRecord(bool, uint8_t, uint16_t) override { CHECK(!gone_); }
  void OnSecret(const char* line) override { CHECK(!gone_ && strlen(line) > 0); }
  void OnTicket(SSL_SESSION* session) override {
    CHECK(!gone_);
    if (server_ || !keeps_) return;
    uint8_t* der = nullptr;
    const int length = i2d_SSL_SESSION(session, &der);
    CHECK(length > 0);
    sessions[setup_ & kTls13 ? 1 : 0].assign(reinterpret_cast<char*>(der),
                                             static_cast<size_t>(length));
    OPENSSL_free(der);
  }
  void OnRenegotiation() override { CHECK(!gone_ && server_); }
  int OnAlpn(const uint8_t** out, uint8_t* out_length, const uint8_t* in, unsigned) override {
    if (!(setup_ & kAlpn)) return SSL_TLSEXT_ERR_NOACK;
    *out = in + 1;
    *out_length = in[0];
    return SSL_TLSEXT_ERR_OK;
  }
  void OnCertificateRequest(const uint8_t*, size_t) override {}
  int OnCertificate() override {
    CHECK(!gone_);
    if (!(setup_ & (server_ ? kServerSuspends : kClientSuspends))) return 1;
    return std::exchange(answer_, -1);
  }

  void Write() {
    if (failed_ || suspended_ || !session_.established()) return;
    const Turn turn(&numbers_);
    uint8_t plain[4096];
    while (said_ < wanted_) {
      const size_t length = std::min(wanted_ - said_, sizeof plain);
      for (size_t at = 0; at < length; at++) plain[at] = Said(server_, said_ + at);
      size_t written = 0;
      const Status status = session_.Write(plain, length, &written);
      CHECK(written <= length);
      Checked(status);
      said_ += written;
      if (status == Status::kFailed) return OnOver(status);
      if (status != Status::kData) return;
      CHECK(written == length);
    }
    if (!closes_ || said_close_) return;
    const Status status = session_.SendCloseNotify();
    Checked(status);
    if (status == Status::kFailed) return OnOver(status);
    said_close_ = status == Status::kClosed;
    CHECK(said_close_ == told_close_);
  }

  void OnSecure() {
    SSL* ssl = session_.ssl();
    (void)close_notify::JudgementOf(ssl);
    (void)close_notify::CertificateOf(ssl);
    (void)close_notify::ChainOf(ssl);
    CHECK(!close_notify::SessionOf(ssl).empty());
    CHECK(close_notify::DhBits(ssl) == 0);
    CheckQueue();
  }

  void OnOver(Status status) {
    over_ = true;
    failed_ = status == Status::kFailed;
    closed_ = status == Status::kClosed;
    CHECK(closed_ == !session_.failure().message.size());
    CHECK(failed_ == !session_.failure().code.empty());
    // The claim rests on what was shown.
    CHECK(!closed_ || heard_close_);
    // And it is the last word.
    uint8_t byte;
    size_t length = 0;
    CHECK(session_.Read(&byte, 1, &length) == status && length == 0);
    CheckQueue();
  }

  void Checked(Status status) {
    CheckQueue();
    if (status == Status::kFailed) CHECK(!session_.failure().code.empty());
  }

  /** Node would take an error that stays for its own. */
  static void CheckQueue() { CHECK(ERR_peek_error() == 0); }

  const bool server_;
  const uint8_t setup_;
  uint64_t numbers_;
  bool gone_ = false;
  Bytes output_;
  Session session_;
  std::string unfed_;
  std::string taken_;
  int answer_ = -1;
  size_t wanted_ = 0;
  size_t said_ = 0;
  size_t heard_ = 0;
  bool over_ = false;
  bool failed_ = false;
  bool closed_ = false;
  bool closes_ = false;
  bool said_close_ = false;
  bool told_close_ = false;
  bool heard_close_ = false;
  bool suspended_ = false;

 public:
  /** Its tickets become the sessions that are resumed. */
  bool keeps_ = false;
};

/** Where bytes end that are records: whether between two of them. */
bool IsBoundary(const std::string& bytes) {
  size_t at = 0;
  while (at + 5 <= bytes.size()) {
    at += 5 + (static_cast<uint8_t>(bytes[at + 3]) << 8 | static_cast<uint8_t>(bytes[at + 4]));
  }
  return at == bytes.size();
}

// Conversations ----------------------------------------------------------------------------------

/** Takes an input apart, byte by byte; zeros behind its end. */
class Script {
 public:
  Script(const uint8_t* data, size_t length) : at_(data), end_(data + length) {}
  bool done() const { return at_ == end_; }
  uint8_t Byte() { return done() ? 0 : *at_++; }
  size_t Word() {
    const size_t high = Byte();
    return high << 8 | Byte();
  }
  std::string Take(size_t length) {
    const size_t taken = std::min(length, static_cast<size_t>(end_ - at_));
    std::string bytes(reinterpret_cast<const char*>(at_), taken);
    at_ += taken;
    return bytes;
  }

 private:
  const uint8_t* at_;
  const uint8_t* const end_;
};

enum Step : uint8_t {
  kDeliver,
  kDeliverAll,
  kFlip,
  kDrop,
  kInsert,
  kRepeat,
  kSay,
  kClose,
  kUpdateKeys,
  kRequestKeys,
  kProceed,
  kRefuse,
  kRenegotiate,
  kFreeBuffers,
  kSwap,
  kSteps,
};

/** What one party sent and the other one has not got. */
struct Way {
  Party* from;
  Party* to;
  std::string on_its_way;
  /** All that was sent so far, and all that was delivered. */
  std::string sent;
  std::string delivered;

  void Collect() {
    const std::string more = from->TakeOutput();
    sent += more;
    on_its_way += more;
  }
  void Deliver(size_t length) {
    const std::string bytes = on_its_way.substr(0, length);
    on_its_way.erase(0, length);
    delivered += bytes;
    to->Deliver(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  }
  bool untouched() const { return sent.compare(0, delivered.size(), delivered) == 0; }
  /** And nothing of it was dropped either. */
  bool whole() const { return delivered + on_its_way == sent; }
};

constexpr size_t kMostSteps = 200;
constexpr size_t kMostSaid = 200000;

struct Conversation {
  explicit Conversation(uint8_t setup)
      : client(false, setup),
        server(true, setup),
        ways{{&client, &server, {}, {}, {}}, {&server, &client, {}, {}, {}}} {}

  void Collect() {
    for (Way& way : ways) way.Collect();
  }

  void DoStep(Script& script) {
    const uint8_t word = script.Byte();
    Way& way = ways[word >> 7];
    Party& party = *way.from;
    std::string& bytes = way.on_its_way;
    const uint8_t step = (word & 127) % kSteps;
    switch (step) {
      case kDeliver:
        way.Deliver(script.Word());
        break;
      case kDeliverAll:
        way.Deliver(bytes.size());
        break;
      case kFlip: {
        const size_t at = script.Word();
        const uint8_t bits = script.Byte();
        if (at < bytes.size()) bytes[at] = static_cast<char>(bytes[at] ^ bits);
        break;
      }
      case kDrop: {
        const size_t at = script.Word();
        const size_t length = script.Byte();
        if (at < bytes.size()) bytes.erase(at, length);
        break;
      }
      case kInsert: {
        const size_t at = std::min(script.Word(), bytes.size());
        bytes.insert(at, script.Take(script.Byte()));
        break;
      }
      case kRepeat: {
        const size_t at = script.Word();
        const size_t length = script.Word();
        if (at < way.sent.size()) bytes += way.sent.substr(at, length);
        break;
      }
      case kSay:
        if (party.wanted() < kMostSaid) party.Say(script.Word());
        break;
      case kClose:
        party.Close();
        break;
      case kUpdateKeys:
      case kRequestKeys:
        party.UpdateKeys(step == kRequestKeys);
        break;
      case kProceed:
      case kRefuse:
        party.Proceed(step == kProceed);
        break;
      case kRenegotiate:
        party.Renegotiate();
        break;
      case kFreeBuffers:
        party.FreeBuffers();
        break;
      case kSwap: {
        const size_t length = script.Byte();
        if (length * 2 <= bytes.size()) {
          std::swap_ranges(bytes.begin(), bytes.begin() + static_cast<long>(length),
                           bytes.begin() + static_cast<long>(length));
        }
        break;
      }
    }
    Collect();
  }

  /** What must hold at any time. */
  void Check() {
    for (const Way& way : ways) {
      const Party& from = *way.from;
      const Party& to = *way.to;
      // Never more than was said. (That it is the same bytes, each of them was looked at for.)
      CHECK(to.heard() <= from.said());
      // A clean end is claimed only of one who has closed, and who was heard to the end.
      if (to.closed()) CHECK(from.said_close() && to.heard() == from.said());
      if (!way.untouched()) continue;
      CHECK(way.sent.compare(0, to.taken().size(), to.taken()) == 0);
      if (!to.failed()) {
        CHECK((to.cut() == Cut::kBoundary) == IsBoundary(to.taken()));
      }
    }
  }

  /** Both say all that they have to say, and close. */
  void Finish() {
    client.Close();
    server.Close();
    Collect();
    for (bool moved = true; moved;) {
      moved = false;
      for (Party* party : {&client, &server}) {
        if (!party->suspended()) continue;
        party->Proceed(true);
        moved = true;
      }
      Collect();
      for (Way& way : ways) {
        if (way.on_its_way.empty() || way.to->over()) continue;
        way.Deliver(way.on_its_way.size());
        moved = true;
        Collect();
      }
    }
  }

  Party client;
  Party server;
  Way ways[2];
};

void Converse(Script& script) {
  const uint8_t setup = script.Byte();
  Conversation conversation(setup);
  conversation.client.Go();
  conversation.Collect();
  for (size_t steps = 0; steps < kMostSteps && !script.done(); steps++) {
    conversation.DoStep(script);
    conversation.Check();
  }
  conversation.Finish();
  conversation.Check();
  // Where nothing was spoilt and nobody was refused, both end cleanly: silence is no way out.
  const Party& client = conversation.client;
  const Party& server = conversation.server;
  if (!conversation.ways[0].whole() || !conversation.ways[1].whole()) return;
  if (client.failed() || server.failed()) return;
  // A close_notify within a renegotiation is the end of it, and OpenSSL sends none of its own then.
  if (client.cut_off() || server.cut_off()) return;
  if (!client.closed() || !server.closed()) {
    fprintf(stderr, "client: %s\nserver: %s\n", client.State().c_str(), server.State().c_str());
  }
  CHECK(client.closed() && server.closed());
  CHECK(client.said() == client.wanted() && server.said() == server.wanted());
}

// Recordings -------------------------------------------------------------------------------------

/** @return whether the conversation ended cleanly. */
bool Replay(bool server, Script& script) {
  const uint8_t setup = script.Byte();
  const size_t piece = script.Byte();
  Party party(server, setup);
  party.Go();
  (void)party.TakeOutput();
  while (!script.done() && !party.over()) {
    const std::string bytes = script.Take(piece == 0 ? 65536 : piece * 8);
    party.Deliver(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    // Answers in the order in which they were given when it was recorded.
    while (party.suspended()) party.Proceed(true);
    (void)party.TakeOutput();
    if (!party.failed()) CHECK((party.cut() == Cut::kBoundary) == IsBoundary(party.taken()));
  }
  const bool closed = party.closed();
  party.Say(100);
  party.Close();
  return closed;
}

// The corpus -------------------------------------------------------------------------------------

void Save(const std::string& folder, int number, const std::string& bytes) {
  const std::string name = folder + "/" + std::to_string(number);
  FILE* file = fopen(name.c_str(), "wb");
  CHECK(file != nullptr);
  CHECK(fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size());
  CHECK(fclose(file) == 0);
}

/** Conversations in which something happens of each kind, and recordings of both their parties. */
void Record(const std::string& folder) {
  const auto to_client = [](uint8_t step) { return static_cast<char>(step | 128); };
  const auto to_server = [](uint8_t step) { return static_cast<char>(step); };
  const std::string settle = {to_server(kDeliverAll), to_client(kDeliverAll), to_server(kProceed),
                              to_client(kProceed), to_server(kDeliverAll), to_client(kDeliverAll)};
  const std::string said = {to_server(kSay), 0, 50, to_client(kSay), 1, 44};
  const std::string middles[] = {
      settle + settle + said + settle,
      settle + settle + said + std::string({to_server(kRequestKeys), to_client(kUpdateKeys)}) + settle + said,
      settle + settle + said + std::string({to_server(kRenegotiate)}) + settle + settle + said,
      settle + settle + std::string({to_client(kSay), 64, 0, to_client(kDeliver), 64, 0}) + settle,
      settle + settle + said + std::string({to_client(kFlip), 0, 20, 1}) + settle,
      settle + settle + said + std::string({to_server(kDrop), 0, 3, 2}) + settle,
      settle + settle + said + std::string({to_server(kRepeat), 0, 0, 1, 0}) + settle,
      settle + settle + said +
          std::string({to_client(kInsert), 0, 0, 7, 21, 3, 3, 0, 2, 1, 0}) + settle,
      settle + settle + said + std::string({to_client(kClose)}) + settle + std::string({to_server(kClose)}),
      std::string({to_server(kDeliver), 0, 9, to_server(kDeliver), 0, 3}) + settle + settle + said,
      settle + settle + std::string({to_client(kRefuse)}) + settle,
  };
  int number = 0;
  const uint8_t setups[] = {0, kAsksClient, kResumes, kAlpn, kServerSuspends | kOtherIdentity,
                            kAsksClient | kClientSuspends | kOtherIdentity};
  for (const uint8_t version : {uint8_t{0}, static_cast<uint8_t>(kTls13)}) {
    for (const uint8_t also : setups) {
      const uint8_t setup = version | also;
      for (const std::string& middle : middles) {
        Save(folder, number++, std::string({0, static_cast<char>(setup)}) + middle);
      }
      // A whole conversation, as each party had it.
      for (const bool server : {false, true}) {
        Conversation conversation(setup);
        conversation.client.Go();
        conversation.Collect();
        const std::string steps = settle + settle + said + settle + said;
        Script script(reinterpret_cast<const uint8_t*>(steps.data()), steps.size());
        while (!script.done()) conversation.DoStep(script);
        conversation.Finish();
        CHECK(conversation.client.closed() && conversation.server.closed());
        CHECK(conversation.client.resumed() == ((setup & kResumes) != 0));
        const std::string& got = conversation.ways[server ? 0 : 1].delivered;
        for (const char piece : {0, 1, 40}) {
          const std::string recording = std::string({static_cast<char>(setup), piece}) + got;
          Script again(reinterpret_cast<const uint8_t*>(recording.data()), recording.size());
          // One that does not succeed untouched would never get anywhere.
          CHECK(Replay(server, again));
          Save(folder, number++, static_cast<char>(server ? 1 : 2) + recording);
        }
      }
    }
  }
  printf("%d\n", number);
}

}  // namespace

/** OpenSSL's clock stands still: sessions have the time in them. */
extern "C" time_t time(time_t* out) {
  constexpr time_t kNow = 1'800'000'000;
  if (out != nullptr) *out = kNow;
  return kNow;
}

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  MakeRandomRepeat();
  CHECK(Session::Install());
  server_context = MakeContext("server");
  client_context = MakeContext("client");
  other_context = MakeContext("other");
  // Sessions to resume.
  for (const uint8_t setup : {uint8_t{0}, static_cast<uint8_t>(kTls13)}) {
    Conversation conversation(setup);
    conversation.client.keeps_ = true;
    conversation.client.Go();
    conversation.Collect();
    conversation.Finish();
    CHECK(conversation.client.closed() && conversation.server.closed());
  }
  CHECK(!sessions[0].empty() && !sessions[1].empty());
  if (const char* folder = getenv("SESSION_FUZZ_RECORD")) {
    Record(folder);
    exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t length) {
  Script script(data, length);
  const uint8_t kind = script.Byte() % 3;
  if (kind == 0) {
    Converse(script);
  } else {
    (void)Replay(kind == 1, script);
  }
  return 0;
}
