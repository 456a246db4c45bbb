// The native engine: what stands between a Session and JavaScript, and between a Session and the kernel.
//
// Theory of operation
// ===================
//
// A Connection owns a Session. With a descriptor it is the transport's only reader and writer: it polls a duplicate of
// the descriptor of a `net.Socket` (which stays idle meanwhile), receives into a buffer that the thread's connections
// share, and sends from another. Without a descriptor it is fed with what another transport gave, and keeps its output
// until it is fetched. Everything else is the same.
//
// Memory. What is decrypted goes into a slab of the thread, and JavaScript makes views of it. When a slab is full it is
// left to those views, and a new one is made. What is to be sent is encrypted into the thread's buffer and sent at
// once; only what the kernel does not take is copied into the connection's own.
//
// JavaScript is called at one place, `Tell`, at the very end of an event of the event loop: all output was sent by then,
// the shared buffers are empty, and nothing is touched behind it, since JavaScript may have destroyed the connection.
// (ALPN is the exception: OpenSSL wants the answer at once. See `AskAlpn`.) What a method that JavaScript calls has to tell is its
// return value. So in both directions the telling is the same: a word of flags; numbers in an array that both share
// (`state`); and rarer things as facts, fetched by `facts()`.
//
// Ownership. A Connection belongs to its JavaScript object, and is deleted by that one's finalizer. From the moment on
// that it polls until its poll handle is closed it keeps that object alive, so the finalizer never meets a handle. A Thread is what the connections of an
// environment share; each of them, each context, and the environment count as its owners. When the environment ends,
// an asynchronous cleanup hook closes what still polls, and Node waits for that before it runs any finalizer.
//
// A wait for a certificate (`OnCertificate`) suspends the handshake within OpenSSL. What arrives meanwhile waits.

#include "engine.h"

#include <openssl/x509v3.h>
#include <uv.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "context.h"
#include "descriptor.h"
#include "error_queue.h"
#include "peer.h"
#include "session.h"
#include "throwing.h"
#include "witness.h"

namespace close_notify {
namespace {

/** One recv, at most. */
constexpr size_t kReceive = 128 * 1024;
/** A record's plaintext, at most, and then some: OpenSSL may hold the beginning of one. */
constexpr size_t kRecord = 16 * 1024 + 1024;
constexpr size_t kSlab = 512 * 1024;
/** So much is encrypted before it is sent. */
constexpr size_t kPiece = 128 * 1024;
/** With so much not taken by the transport nothing more is encrypted, and whoever writes should wait. */
constexpr size_t kEnough = 64 * 1024;
/**
 * With so much not taken nothing more is received: OpenSSL answers each KeyUpdate, and a peer may send those without
 * end and read nothing. What a program writes never comes to as much.
 */
constexpr size_t kTooMuch = 1 << 20;
/** Milliseconds after which memory that was not used meanwhile is given back. */
constexpr uint64_t kTrim = 500;
/** The thread's buffers are given back where they grew beyond it. */
constexpr size_t kMostKept = 1 << 20;

constexpr napi_type_tag kConnectionTag = {0x3f0b54a6cf4e4c6b, 0x9d7a1f1e0a2b7c55};
constexpr napi_type_tag kContextTag = {0x5b8a3c1de0974f02, 0xa6640c9be1f37d18};

/** What a call or an event tells. */
enum Flag : uint32_t {
  /** state[kOffset] and state[kLength] say where in the slab. */
  kDataFlag = 1,
  /** `facts()` has something. */
  kFactsFlag = 2,
  /** The slab is a new one: `slab()`. */
  kSlabFlag = 4,
  /** There is room again for who writes. */
  kDrainFlag = 8,
  /** There is output to fetch. */
  kOutputFlag = 16,
};

/** Indices of `state`. */
enum State : uint32_t { kOffset, kLength, kPending, kUnsent, kStateLength };

/** Kinds of facts. Each has up to three numbers, and perhaps bytes or text. */
enum class Kind : uint32_t {
  /** sent; authenticated << 16 | level << 8 | description; when, in milliseconds of CLOCK_MONOTONIC */
  kAlert = 1,
  /** sent, type, length */
  kRecord,
  /** text: a line of the key log */
  kSecret,
  /** bytes: a session, in DER */
  kTicket,
  /** The handshake is complete. */
  kSecure,
  /** text: code and message, with a newline between them */
  kFailed,
  /** cut */
  kEof,
  /** errno, cut */
  kReceiveError,
  /** errno */
  kSendError,
  /** The handshake waits for `proceed`. bytes: on a client the CertificateRequest, without the header */
  kWantCertificate,
  /** sent; bytes */
  kBytes,
  kRenegotiation,
};

struct Fact {
  Kind kind;
  double numbers[3];
  enum class Form : uint8_t { kNone, kText, kBytes } form;
  std::string data;
};

napi_value ThrowError(napi_env env, const char* code, const char* message) {
  if (napi_throw_error(env, code, message) != napi_ok) return Fail(env);
  return nullptr;
}

/** Those of all threads. For tests. */
std::atomic<int> live_connections{0};
std::atomic<int> live_sessions{0};
std::atomic<int> live_contexts{0};

class Connection;

/** What all connections of one environment share. */
struct Thread {
  napi_env env = nullptr;
  uv_loop_t* loop = nullptr;
  int owners = 1;
  bool ended = false;
  napi_async_context async = nullptr;
  napi_async_cleanup_hook_handle cleanup = nullptr;
  napi_ref dispatch = nullptr;
  /** JavaScript has an ArrayBuffer of it, which is an owner, too. */
  double state[kStateLength] = {};
  napi_ref slab_reference = nullptr;
  uint8_t* slab = nullptr;
  size_t slab_size = 0;
  size_t slab_used = 0;
  bool slab_is_new = false;
  std::unique_ptr<uint8_t[]> in;
  Bytes out;
  /** The connections that poll. */
  Connection* first = nullptr;
  /** Handles that are being closed. */
  int closing = 0;

  void Release() {
    if (--owners == 0) delete this;
  }
  /** Room for a record at least. False: no memory. */
  bool HasRoom(size_t length);
  /** Has the connections give back memory that they have not used for a while. */
  bool TrimLater();
  void EndIfDone();

 private:
  bool SlabIsOurs() const;
  static void OnTimer(uv_timer_t* handle);

 public:
  uv_timer_t* timer = nullptr;
};

/** A context of the engine's own. */
struct Context {
  /** @param one a reference that is given. @param is_own whether nobody else makes connections of it. */
  Context(SSL_CTX* one, bool is_own) : ssl_context(one), own(is_own) { live_contexts++; }
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;
  ~Context() {
    SSL_CTX_free(ssl_context);
    live_contexts--;
  }

  SSL_CTX* const ssl_context;
  const bool own;
};

class Connection final : public Session::Events {
 public:
  explicit Connection(Thread* thread) : thread_(thread) {
    thread->owners++;
    live_connections++;
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection();

  struct Options {
    bool server = false;
    int verify = SSL_VERIFY_NONE;
    bool records = false;
    bool bytes = false;
    bool secrets = false;
    bool tickets = false;
    bool wants_certificate = false;
    bool alpn_callback = false;
    /** Tickets that a server sends; negative: OpenSSL's own number. */
    int ticket_count = -1;
    std::string servername;
    std::string session;
    std::string alpn;
  };

  /** Null, or what is wrong. */
  const char* Init(SSL_CTX* context, Options options);
  /** Polls a duplicate of a descriptor. Null, or what is wrong. */
  const char* Open(int descriptor);

  uint32_t Start(const uint8_t* head, size_t length);
  uint32_t Feed(const uint8_t* data, size_t length);
  uint32_t Write(const uint8_t* data, size_t length, bool flush);
  uint32_t CloseWrite();
  /** The certificate is there, or is refused. */
  uint32_t Proceed(bool given);
  uint32_t Flush();
  /** The output is with another transport. */
  void Fetched();
  /** That has taken so many bytes of it. */
  uint32_t Taken(size_t length);
  /** That takes no more. */
  void Break();
  uint32_t UpdateKeys(bool request);
  size_t Discard();
  void SetReading(bool reading);
  void SetReference(bool referenced);
  /** Stops polling and closes the duplicate. */
  void Close();
  /** Frees the SSL as well. */
  void Destroy();
  void OnEnvironmentEnd() { Close(); }
  /** Gives back memory, unless it was used since the last time. Whether there may be some the next time. */
  bool Trim();

  Thread* thread() const { return thread_; }
  /** Null once it is destroyed. */
  Session* session() { return destroy_wanted_ ? nullptr : session_.get(); }
  /** Whether OpenSSL waits for JavaScript's answer. */
  bool asking() const { return asking_; }
  Bytes& unfed() { return unfed_; }
  Bytes& out() { return out_; }
  std::vector<Fact>& facts() { return facts_; }
  napi_env env() const { return thread_->env; }
  Connection* next() const { return next_; }
  uint64_t received() const { return received_; }
  uint64_t sent() const { return sent_; }
  bool polls() const { return poll_ != nullptr; }
  /** What `state` and the flags say at the end of a call. */
  uint32_t Settle();

  napi_ref wrapper = nullptr;

 private:
  void OnAlert(bool sent, uint8_t level, uint8_t description, bool authenticated) override;
  void OnRecord(bool sent, uint8_t type, uint16_t length) override;
  void OnSecret(const char* line) override;
  void OnTicket(SSL_SESSION* session) override;
  void OnRenegotiation() override;
  void OnCertificateRequest(const uint8_t* body, size_t length) override;
  int OnAlpn(const uint8_t** out, uint8_t* out_length, const uint8_t* in,
             unsigned in_length) override;
  int OnCertificate() override;

  static void OnPoll(uv_poll_t* handle, int status, int events);
  static void OnClosed(uv_handle_t* handle);
  void Tell(uint32_t flags);

  void Add(Kind kind, double first = 0, double second = 0, double third = 0);
  void AddText(Kind kind, std::string text);
  void AddBytes(Kind kind, double first, const uint8_t* data, size_t length);

  bool AskAlpn(const uint8_t* in, unsigned in_length);
  void FreeSession();
  void Use();
  void Receive();
  void Take(const uint8_t* data, size_t length);
  void OutOfMemory();
  void Pump();
  bool IsRefused();
  void OnFailed();
  void Account(size_t made);
  void Left();
  void SendWaiting();
  void Encrypt();
  void EndWhenDue();
  void UpdateKeysWhenDue();
  void BeginOutput();
  void EndOutput();
  void Send(Bytes* bytes);
  void Poll();
  bool may_encrypt() const {
    return established_ && !failed_ && !suspended_ && untaken() < kEnough && !broken_;
  }
  /** Records that no transport has taken. */
  size_t untaken() const { return out_.size() + in_flight_; }

  Thread* const thread_;
  Options options_;
  std::unique_ptr<Session> session_;
  /** Plaintext that is not encrypted yet. */
  Bytes plain_;
  /** Records that the transport has not taken. */
  Bytes out_;
  /** Ciphertext that was received and not given to OpenSSL: trailing data, once the peer has closed. */
  Bytes unfed_;
  /** Input that JavaScript was asked in the middle of. */
  Bytes held_;
  /** What `onAlpn` has chosen. */
  std::string protocol_;
  /** The server's last CertificateRequest. */
  std::string request_;
  std::vector<Fact> facts_;
  /** Alerts of ours that the transport has not taken. */
  std::vector<Fact> leaving_;

  uv_poll_t* poll_ = nullptr;
  int descriptor_ = -1;
  int polled_ = 0;
  Connection* next_ = nullptr;
  Connection** link_ = nullptr;

  /** Bytes that another transport was given and has not taken. */
  size_t in_flight_ = 0;
  /**
   * Plaintext that was encrypted in all, and that part of it whose records the transport has taken. What is between
   * them is known by where its records end.
   */
  struct Mark {
    uint64_t records;
    uint64_t plain;
  };
  std::deque<Mark> marks_;
  uint64_t records_ = 0;
  uint64_t encrypted_ = 0;
  uint64_t taken_plain_ = 0;
  /** Bytes of `out_` that were told as sent. */
  size_t recorded_ = 0;
  /** Bytes that went by the descriptor. */
  uint64_t received_ = 0;
  uint64_t sent_ = 0;
  size_t data_start_ = 0;
  size_t data_length_ = 0;

  bool established_ = false;
  bool failed_ = false;
  /** The peer's close_notify came. */
  bool closed_ = false;
  bool close_wanted_ = false;
  bool close_done_ = false;
  bool suspended_ = false;
  bool reading_ = true;
  bool ended_ = false;
  /** The transport takes no more. */
  bool broken_ = false;
  bool was_full_ = false;
  /** Since the last time that memory was given back, and since a timer has looked. */
  bool has_buffers_ = false;
  bool used_ = false;
  /** A handshake keeps what was written waiting. */
  bool stalled_ = false;
  /** OpenSSL waits for JavaScript's answer: it may not be entered, and nothing may be freed. */
  bool asking_ = false;
  /** JavaScript has destroyed the connection meanwhile. */
  bool destroy_wanted_ = false;
  enum class Answer : int8_t { kNone, kAsked, kGiven, kRefused } answer_ = Answer::kNone;
  /** A KeyUpdate that waits for the end of a handshake; `kRequested` asks the peer for one, too. */
  enum class KeyUpdate : uint8_t { kNone, kWanted, kRequested } key_update_ = KeyUpdate::kNone;
};

// Thread -----------------------------------------------------------------------------------------

/**
 * JavaScript has views of the slab, and whoever has one can transfer the memory behind it to somebody else, who frees
 * it. `markAsUntransferable` is no help against `ArrayBuffer.prototype.transfer`.
 */
bool Thread::SlabIsOurs() const {
  napi_value buffer;
  void* data = nullptr;
  size_t length = 0;
  return napi_get_reference_value(env, slab_reference, &buffer) == napi_ok && buffer != nullptr &&
         napi_get_typedarray_info(env, buffer, nullptr, &length, &data, nullptr, nullptr) ==
             napi_ok &&
         data == slab && length == slab_size;
}

bool Thread::HasRoom(size_t length) {
  if (slab != nullptr && slab_size - slab_used >= length && SlabIsOurs()) return true;
  // What came while a handshake was suspended may be more than a slab has by default.
  const size_t size = std::max(length, kSlab);
  napi_value buffer;
  void* data = nullptr;
  napi_ref reference = nullptr;
  // A failure leaves an exception, which would hide what is told later.
  if (napi_create_buffer(env, size, &data, &buffer) != napi_ok ||
      napi_create_reference(env, buffer, 1, &reference) != napi_ok) {
    napi_value error;
    bool thrown = false;
    if (napi_is_exception_pending(env, &thrown) == napi_ok && thrown) {
      (void)napi_get_and_clear_last_exception(env, &error);
    }
    return false;
  }
  if (slab_reference != nullptr) (void)napi_delete_reference(env, slab_reference);
  slab_reference = reference;
  slab = static_cast<uint8_t*>(data);
  slab_size = size;
  slab_used = 0;
  slab_is_new = true;
  return true;
}

bool Thread::TrimLater() {
  if (timer == nullptr) {
    timer = new (std::nothrow) uv_timer_t;
    if (timer == nullptr) return false;
    // It cannot fail.
    (void)uv_timer_init(loop, timer);
    timer->data = this;
    uv_unref(reinterpret_cast<uv_handle_t*>(timer));
  }
  if (uv_is_active(reinterpret_cast<uv_handle_t*>(timer))) return true;
  return uv_timer_start(timer, OnTimer, kTrim, 0) == 0;
}

void Thread::OnTimer(uv_timer_t* handle) {
  Thread* self = static_cast<Thread*>(handle->data);
  bool again = false;
  for (Connection* one = self->first; one != nullptr; one = one->next()) again |= one->Trim();
  // It can only fail where it did before, and then the memory stays in use.
  if (again) (void)self->TrimLater();
}

void Thread::EndIfDone() {
  if (!ended || closing > 0 || cleanup == nullptr) return;
  napi_async_cleanup_hook_handle handle = cleanup;
  cleanup = nullptr;
  (void)napi_remove_async_cleanup_hook(handle);
  Release();
}

// Connection: its facts --------------------------------------------------------------------------

void Connection::Add(Kind kind, double first, double second, double third) {
  facts_.push_back({kind, {first, second, third}, Fact::Form::kNone, {}});
}

void Connection::AddText(Kind kind, std::string text) {
  facts_.push_back({kind, {0, 0, 0}, Fact::Form::kText, std::move(text)});
}

void Connection::AddBytes(Kind kind, double first, const uint8_t* data, size_t length) {
  facts_.push_back({kind,
                    {first, 0, 0},
                    Fact::Form::kBytes,
                    std::string(reinterpret_cast<const char*>(data), length)});
}

void Connection::OnAlert(bool sent, uint8_t level, uint8_t description, bool authenticated) {
  const double word = (authenticated ? 1 << 16 : 0) | level << 8 | description;
  const double now = static_cast<double>(uv_hrtime()) / 1e6;
  if (sent) {
    leaving_.push_back({Kind::kAlert, {1, word, now}, Fact::Form::kNone, {}});
  } else {
    Add(Kind::kAlert, 0, word, now);
  }
}

void Connection::OnRecord(bool sent, uint8_t type, uint16_t length) {
  if (options_.records) Add(Kind::kRecord, sent, type, length);
}

void Connection::OnSecret(const char* line) {
  if (options_.secrets) AddText(Kind::kSecret, line);
}

void Connection::OnTicket(SSL_SESSION* session) {
  if (!options_.tickets) return;
  uint8_t* der = nullptr;
  const int length = i2d_SSL_SESSION(session, &der);
  if (length > 0) AddBytes(Kind::kTicket, 0, der, static_cast<size_t>(length));
  OPENSSL_free(der);
}

void Connection::OnRenegotiation() {
  Add(Kind::kRenegotiation);
}

void Connection::OnCertificateRequest(const uint8_t* body, size_t length) {
  if (options_.wants_certificate) request_.assign(reinterpret_cast<const char*>(body), length);
}

int Connection::OnAlpn(const uint8_t** out, uint8_t* out_length, const uint8_t* in,
                       unsigned in_length) {
  if (options_.alpn_callback) {
    // JavaScript is asked once. A renegotiation happens while SSL_read decrypts into the slab, and agrees on the same.
    if (!established_ && !AskAlpn(in, in_length)) return SSL_TLSEXT_ERR_ALERT_FATAL;
    if (protocol_.empty()) return SSL_TLSEXT_ERR_NOACK;
    for (size_t at = 0; at < in_length; at += size_t{1} + in[at]) {
      if (at + 1 + in[at] > in_length) break;
      if (protocol_.compare(0, std::string::npos, reinterpret_cast<const char*>(in + at + 1),
                            in[at]) != 0) {
        continue;
      }
      *out = in + at + 1;
      *out_length = in[at];
      return SSL_TLSEXT_ERR_OK;
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  if (options_.alpn.empty()) return SSL_TLSEXT_ERR_NOACK;
  uint8_t* selected = nullptr;
  const int outcome = SSL_select_next_proto(
      &selected, out_length, reinterpret_cast<const uint8_t*>(options_.alpn.data()),
      static_cast<unsigned>(options_.alpn.size()), in, in_length);
  *out = selected;
  return outcome == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/**
 * Has `onAlpn` of JavaScript choose `protocol_`. False: it chose none.
 *
 * This is within an SSL call, and JavaScript may do anything meanwhile, to this connection and to others. So the thread's
 * buffer is set aside, since each connection expects it to be empty; what was not read of the input is copied, since its
 * memory is JavaScript's; and `asking_` keeps this connection's methods from OpenSSL, and from freeing it.
 */
bool Connection::AskAlpn(const uint8_t* in, unsigned in_length) {
  napi_env env = thread_->env;
  napi_handle_scope scope;
  if (!held_.Append(session_->rest_data(), session_->rest())) return false;
  session_->SetInput(held_.data(), held_.size());
  if (napi_open_handle_scope(env, &scope) != napi_ok) return false;
  Bytes output;
  output.Swap(thread_->out);
  asking_ = true;
  napi_value self, callback, offered, result;
  uint32_t at = 0;
  bool chosen = false;
  napi_valuetype type = napi_undefined;
  void* copy = nullptr;
  if (napi_get_reference_value(env, wrapper, &self) == napi_ok && self != nullptr &&
      napi_get_named_property(env, self, "onAlpn", &callback) == napi_ok &&
      napi_create_buffer_copy(env, in_length, in, &copy, &offered) == napi_ok &&
      napi_call_function(env, self, callback, 1, &offered, &result) == napi_ok &&
      napi_typeof(env, result, &type) == napi_ok && type == napi_number &&
      napi_get_value_uint32(env, result, &at) == napi_ok) {
    chosen = at < in_length && in[at] > 0 && at + 1 + in[at] <= in_length;
  }
  bool thrown = false;
  napi_value error;
  if (napi_is_exception_pending(env, &thrown) == napi_ok && thrown) {
    // `onAlpn` catches what the program throws; this is for the rest.
    (void)napi_get_and_clear_last_exception(env, &error);
  }
  (void)napi_close_handle_scope(env, scope);
  asking_ = false;
  output.Swap(thread_->out);
  if (!chosen || destroy_wanted_) return false;
  protocol_.assign(reinterpret_cast<const char*>(in + at + 1), in[at]);
  return true;
}

int Connection::OnCertificate() {
  if (!options_.wants_certificate) return 1;
  // A server is asked for the name that the client gave, and without one there is nothing to ask.
  if (options_.server && SSL_get_servername(session_->ssl(), TLSEXT_NAMETYPE_host_name) == nullptr)
    return 1;
  switch (answer_) {
    case Answer::kNone:
      answer_ = Answer::kAsked;
      AddBytes(Kind::kWantCertificate, 0, reinterpret_cast<const uint8_t*>(request_.data()),
               request_.size());
      return -1;
    case Answer::kAsked:
      return -1;
    case Answer::kGiven:
      answer_ = Answer::kNone;
      return 1;
    case Answer::kRefused:
      return 0;
  }
  return 0;
}

// Connection: setting up -------------------------------------------------------------------------

const char* Connection::Init(SSL_CTX* context, Options options) {
  CleanErrorQueue errors;
  options_ = std::move(options);
  session_.reset(new (std::nothrow) Session());
  if (session_ == nullptr) return "no memory";
  live_sessions++;
  {
    // The witness is for the connections that Node makes.
    Witness::Pause pause;
    if (!session_->Init(context, options_.server, this, &thread_->out)) {
      return "OpenSSL makes no connection";
    }
  }
  SSL* ssl = session_->ssl();
  SSL_set_verify(ssl, options_.verify, [](int, X509_STORE_CTX*) { return 1; });
  const uint8_t* bytes;
  if (!options_.server) {
    if (!options_.servername.empty() &&
        SSL_set_tlsext_host_name(ssl, options_.servername.c_str()) != 1) {
      return "the servername is not taken";
    }
    bytes = reinterpret_cast<const uint8_t*>(options_.alpn.data());
    if (!options_.alpn.empty() &&
        SSL_set_alpn_protos(ssl, bytes, static_cast<unsigned>(options_.alpn.size())) != 0) {
      return "the application protocols are not taken";
    }
    if (!options_.session.empty()) {
      bytes = reinterpret_cast<const uint8_t*>(options_.session.data());
      SSL_SESSION* session =
          d2i_SSL_SESSION(nullptr, &bytes, static_cast<long>(options_.session.size()));
      // As in Node, what is no session is no error: the handshake is a full one.
      if (session != nullptr) (void)SSL_set_session(ssl, session);
      SSL_SESSION_free(session);
    }
    // A server may ask behind the handshake only who offers it (RFC 9846, section 4.2.6).
    if (options_.wants_certificate) SSL_set_post_handshake_auth(ssl, 1);
  } else if (options_.ticket_count >= 0 &&
             SSL_set_num_tickets(ssl, static_cast<size_t>(options_.ticket_count)) != 1) {
    return "the number of tickets is not taken";
  }
  return nullptr;
}

const char* Connection::Open(int descriptor) {
  if (thread_->ended) return "the thread ends";
  const char* problem = nullptr;
  descriptor_ = DuplicateDescriptor(descriptor, &problem);
  if (descriptor_ < 0) return problem;
  poll_ = new (std::nothrow) uv_poll_t;
  if (poll_ == nullptr || uv_poll_init(thread_->loop, poll_, descriptor_) != 0) {
    delete poll_;
    poll_ = nullptr;
    CloseDescriptor(descriptor_);
    descriptor_ = -1;
    return "the descriptor cannot be polled";
  }
  poll_->data = this;
  uint32_t count;
  // While it polls nothing may collect its object. It can only fail for a null argument.
  (void)napi_reference_ref(thread_->env, wrapper, &count);
  next_ = thread_->first;
  if (next_ != nullptr) next_->link_ = &next_;
  link_ = &thread_->first;
  thread_->first = this;
  return nullptr;
}

void Connection::Close() {
  reading_ = false;
  if (poll_ == nullptr) return;
  uv_poll_t* poll = poll_;
  poll_ = nullptr;
  thread_->closing++;
  uv_close(reinterpret_cast<uv_handle_t*>(poll), OnClosed);
  CloseDescriptor(descriptor_);
  descriptor_ = -1;
  polled_ = 0;
  if (link_ == nullptr) return;
  *link_ = next_;
  if (next_ != nullptr) next_->link_ = link_;
  next_ = nullptr;
  link_ = nullptr;
}

void Connection::OnClosed(uv_handle_t* handle) {
  Connection* self = static_cast<Connection*>(handle->data);
  delete reinterpret_cast<uv_poll_t*>(handle);
  Thread* thread = self->thread_;
  thread->closing--;
  uint32_t count;
  // From here on its object may be collected. It can only fail for a null argument.
  (void)napi_reference_unref(thread->env, self->wrapper, &count);
  thread->EndIfDone();
}

bool Connection::Trim() {
  if (!has_buffers_ || session_ == nullptr) return false;
  if (used_) {
    used_ = false;
    return true;
  }
  has_buffers_ = false;
  session_->FreeBuffers();
  for (Bytes* bytes : {&plain_, &out_, &unfed_}) {
    if (bytes->empty()) bytes->Free();
  }
  return false;
}

/** OpenSSL has been at work, and keeps buffers for the next time. */
void Connection::Use() {
  used_ = true;
  if (has_buffers_) return;
  has_buffers_ = true;
  // Without a timer the memory stays in use.
  if (poll_ != nullptr) (void)thread_->TrimLater();
}

Connection::~Connection() {
  // A session that is freed tells nothing: its events would come here.
  FreeSession();
  thread_->Release();
  live_connections--;
}

void Connection::FreeSession() {
  if (session_ != nullptr) live_sessions--;
  session_.reset();
}

// Connection: bytes ------------------------------------------------------------------------------

uint32_t Connection::Start(const uint8_t* head, size_t length) {
  BeginOutput();
  if (length > 0) {
    Take(head, length);
  } else {
    Pump();
  }
  EndOutput();
  Poll();
  return Settle();
}

uint32_t Connection::Feed(const uint8_t* data, size_t length) {
  BeginOutput();
  Take(data, length);
  EndOutput();
  return Settle();
}

void Connection::Receive() {
  uint8_t* in = thread_->in.get();
  const int64_t length = ReceiveFrom(descriptor_, in, kReceive);
  if (length > 0) {
    received_ += static_cast<uint64_t>(length);
    BeginOutput();
    Take(in, static_cast<size_t>(length));
    EndOutput();
  } else if (length == 0) {
    ended_ = true;
    Add(Kind::kEof, static_cast<double>(session_->cut()));
  } else if (!IsLater(length)) {
    ended_ = true;
    Add(Kind::kReceiveError, static_cast<double>(-length), static_cast<double>(session_->cut()));
  }
}

/** Gives OpenSSL what was received. What it does not take for now waits in `unfed_`. */
void Connection::Take(const uint8_t* data, size_t length) {
  if (options_.bytes && !closed_) AddBytes(Kind::kBytes, 0, data, length);
  if (closed_ || failed_ || suspended_) {
    if (!unfed_.Append(data, length)) OutOfMemory();
    return;
  }
  session_->SetInput(data, length);
  Pump();
  if (!unfed_.Append(session_->rest_data(), session_->rest())) OutOfMemory();
  session_->SetInput(nullptr, 0);
  held_.Free();
}

void Connection::OutOfMemory() {
  ended_ = true;
  Add(Kind::kReceiveError, ENOMEM, static_cast<double>(session_->cut()));
}

/** Has OpenSSL go on with its input. */
void Connection::Pump() {
  Session::Status status = Session::Status::kMore;
  const bool was_established = established_;
  if (!established_) {
    status = session_->Handshake();
    if (session_->established()) {
      established_ = true;
      Add(Kind::kSecure);
      if (IsRefused()) {
        // As in Node nothing more goes out, so that a TLS 1.2 client does not think that it is welcome.
        failed_ = true;
        session_->DropOutput();
        return;
      }
    }
  }
  // Plaintext is never longer than its records, so all of it stands in one piece.
  if (established_ && !thread_->HasRoom(session_->rest() + kRecord)) {
    OutOfMemory();
    return;
  }
  while (established_) {
    size_t length = 0;
    status = session_->Read(thread_->slab + thread_->slab_used,
                            thread_->slab_size - thread_->slab_used, &length);
    if (status != Session::Status::kData) break;
    if (data_length_ == 0) data_start_ = thread_->slab_used;
    data_length_ += length;
    thread_->slab_used += length;
  }
  // Many are idle behind their handshake, and more memory than one time's would not be given back to the system.
  if (established_ && !was_established && data_length_ == 0) session_->FreeBuffers();
  switch (status) {
    case Session::Status::kClosed:
      closed_ = true;
      break;
    case Session::Status::kSuspended:
      suspended_ = true;
      break;
    case Session::Status::kFailed:
      OnFailed();
      return;
    default:
      break;
  }
  UpdateKeysWhenDue();
  // What a handshake kept waiting goes on, unless the peer has closed: then it is for the program to say.
  if (!stalled_ || closed_) return;
  Encrypt();
  EndWhenDue();
}

/** Whether this is a server that refuses its client's certificate. JavaScript says so. */
bool Connection::IsRefused() {
  if (!options_.server || (options_.verify & SSL_VERIFY_FAIL_IF_NO_PEER_CERT) == 0) return false;
  SSL* ssl = session_->ssl();
  return JudgementOf(ssl).code != nullptr || !HasCertificate(ssl);
}

void Connection::OnFailed() {
  if (failed_) return;
  failed_ = true;
  const Failure& failure = session_->failure();
  AddText(Kind::kFailed, failure.code + "\n" + failure.message);
}

uint32_t Connection::Proceed(bool given) {
  if (answer_ != Answer::kAsked) return Settle();
  answer_ = given ? Answer::kGiven : Answer::kRefused;
  suspended_ = false;
  BeginOutput();
  // What came meanwhile goes first; without any, OpenSSL goes on by itself.
  Bytes waiting;
  waiting.Swap(unfed_);
  session_->SetInput(waiting.data(), waiting.size());
  Pump();
  if (!unfed_.Append(session_->rest_data(), session_->rest())) OutOfMemory();
  session_->SetInput(nullptr, 0);
  held_.Free();
  EndOutput();
  Poll();
  return Settle();
}

uint32_t Connection::UpdateKeys(bool request) {
  if (broken_) return Settle();
  if (request || key_update_ == KeyUpdate::kNone) {
    key_update_ = request ? KeyUpdate::kRequested : KeyUpdate::kWanted;
  }
  BeginOutput();
  // What was written before stands before it, as far as the transport takes it.
  Encrypt();
  UpdateKeysWhenDue();
  EndOutput();
  Poll();
  return Settle();
}

/** Sends the KeyUpdate that is wanted, unless a handshake is going on. Between BeginOutput and EndOutput. */
void Connection::UpdateKeysWhenDue() {
  if (key_update_ == KeyUpdate::kNone || suspended_ || failed_) return;
  const Session::Status status = session_->UpdateKeys(key_update_ == KeyUpdate::kRequested);
  if (status != Session::Status::kMore) key_update_ = KeyUpdate::kNone;
  if (status == Session::Status::kFailed && !session_->failure().code.empty()) OnFailed();
}

uint32_t Connection::Write(const uint8_t* data, size_t length, bool flush) {
  if (close_wanted_ || broken_) return Settle();
  if (asking_) flush = false;
  if (flush && plain_.empty() && untaken() == 0) {
    size_t at = 0;
    while (at < length && untaken() == 0 && may_encrypt()) {
      size_t written = 0;
      BeginOutput();
      const Session::Status status =
          session_->Write(data + at, std::min(length - at, kPiece), &written);
      if (status == Session::Status::kFailed) OnFailed();
      encrypted_ += written;
      EndOutput();
      at += written;
      stalled_ = status != Session::Status::kData;
      if (stalled_) break;
    }
    data += at;
    length -= at;
  }
  if (!plain_.Append(data, length)) {
    broken_ = true;
    Add(Kind::kSendError, ENOMEM);
  } else if (flush && length > 0) {
    BeginOutput();
    Encrypt();
    EndOutput();
  }
  Poll();
  return Settle();
}

uint32_t Connection::Flush() {
  if (!plain_.empty() && !asking_) {
    BeginOutput();
    Encrypt();
    EndWhenDue();
    EndOutput();
    Poll();
  }
  return Settle();
}

uint32_t Connection::CloseWrite() {
  close_wanted_ = true;
  if (asking_) return Settle();
  BeginOutput();
  Encrypt();
  EndWhenDue();
  EndOutput();
  Poll();
  return Settle();
}

size_t Connection::Discard() {
  const size_t length = plain_.size();
  plain_.Clear();
  return length;
}

/** Encrypts what waits, as far as the transport takes it. Between BeginOutput and EndOutput. */
void Connection::Encrypt() {
  while (!plain_.empty() && may_encrypt()) {
    size_t written = 0;
    const Session::Status status =
        session_->Write(plain_.data(), std::min(plain_.size(), kPiece), &written);
    plain_.Consume(written);
    encrypted_ += written;
    if (status == Session::Status::kFailed) OnFailed();
    stalled_ = status != Session::Status::kData;
    if (stalled_) return;
    EndOutput();
    BeginOutput();
  }
}

/** Sends close_notify once all that was written is encrypted, and no handshake is going on. */
void Connection::EndWhenDue() {
  if (!close_wanted_ || close_done_ || !established_ || failed_) return;
  if (closed_ && !SSL_is_init_finished(session_->ssl())) {
    // The peer has closed within a renegotiation. That never ends, and within it OpenSSL sends no close_notify.
    close_done_ = broken_ = true;
    Add(Kind::kSendError, ECONNABORTED);
    return;
  }
  if (!plain_.empty()) return;
  const Session::Status status = session_->SendCloseNotify();
  if (status == Session::Status::kFailed) OnFailed();
  stalled_ = status == Session::Status::kMore;
  close_done_ = status == Session::Status::kClosed;
}

/** Records go to the thread's buffer, or behind those that wait. */
void Connection::BeginOutput() {
  session_->SetOutput(out_.empty() ? &thread_->out : &out_);
  Use();
}

/** Sends what was written since BeginOutput. The thread's buffer is empty then. */
void Connection::EndOutput() {
  Bytes& shared = thread_->out;
  size_t made = 0;
  if (out_.empty() && !shared.empty()) {
    made = shared.size();
    if (options_.bytes) AddBytes(Kind::kBytes, 1, shared.data(), shared.size());
    if (poll_ != nullptr) Send(&shared);
    if (!broken_ && !out_.Append(shared.data(), shared.size())) {
      broken_ = true;
      Add(Kind::kSendError, ENOMEM);
    }
    if (shared.size() > kMostKept) {
      shared.Free();
    } else {
      shared.Clear();
    }
  } else if (out_.size() > recorded_) {
    made = out_.size() - recorded_;
    if (options_.bytes) AddBytes(Kind::kBytes, 1, out_.data() + recorded_, made);
  }
  recorded_ = out_.size();
  if (!broken_) Account(made);
  Left();
}

/** What the transport has not taken is counted in plaintext, too. @param made bytes of records made just now. */
void Connection::Account(size_t made) {
  records_ += made;
  if (untaken() == 0) {
    marks_.clear();
    taken_plain_ = encrypted_;
    return;
  }
  if (made > 0) marks_.push_back({records_, encrypted_});
  const uint64_t taken = records_ - untaken();
  while (!marks_.empty() && marks_.front().records <= taken) {
    taken_plain_ = marks_.front().plain;
    marks_.pop_front();
  }
}

/** The transport takes what it can of these bytes. */
void Connection::Send(Bytes* bytes) {
  while (!bytes->empty() && !broken_) {
    const int64_t sent = SendTo(descriptor_, bytes->data(), bytes->size());
    if (sent >= 0) {
      sent_ += static_cast<uint64_t>(sent);
      bytes->Consume(static_cast<size_t>(sent));
    } else if (IsLater(sent)) {
      return;
    } else {
      broken_ = true;
      Add(Kind::kSendError, static_cast<double>(-sent));
      bytes->Clear();
      out_.Free();
    }
  }
}

/** Alerts whose record the transport has taken are told. */
void Connection::Left() {
  if (untaken() > 0 || broken_ || leaving_.empty()) return;
  for (Fact& fact : leaving_) facts_.push_back(std::move(fact));
  leaving_.clear();
}

void Connection::Fetched() {
  in_flight_ += out_.size();
  out_.Clear();
  recorded_ = 0;
}

uint32_t Connection::Taken(size_t length) {
  in_flight_ -= std::min(length, in_flight_);
  if (!broken_) Account(0);
  // Also of a connection that is destroyed an alert may leave.
  if (session() == nullptr) {
    Left();
  } else if (!asking_) {
    SendWaiting();
  }
  return Settle();
}

void Connection::Break() {
  broken_ = true;
  in_flight_ = 0;
  out_.Free();
}

// Connection: the event loop ---------------------------------------------------------------------

void Connection::SetReading(bool reading) {
  reading_ = reading;
  Poll();
}

void Connection::SetReference(bool referenced) {
  if (poll_ == nullptr) return;
  uv_handle_t* handle = reinterpret_cast<uv_handle_t*>(poll_);
  if (referenced) {
    uv_ref(handle);
  } else {
    uv_unref(handle);
  }
}

/** Polls for what is wanted now. */
void Connection::Poll() {
  if (poll_ == nullptr) return;
  int wanted = 0;
  if (reading_ && !ended_ && !closed_ && !failed_ && !suspended_ && untaken() < kTooMuch) {
    wanted |= UV_READABLE;
  }
  if (!out_.empty() && !broken_) wanted |= UV_WRITABLE;
  if (wanted == polled_) return;
  polled_ = wanted;
  // It can only fail for a handle that is being closed.
  if (wanted == 0) {
    (void)uv_poll_stop(poll_);
  } else {
    (void)uv_poll_start(poll_, wanted, OnPoll);
  }
}

void Connection::OnPoll(uv_poll_t* handle, int status, int events) {
  Connection* self = static_cast<Connection*>(handle->data);
  napi_env env = self->thread_->env;
  napi_handle_scope scope;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  const bool may_read = (self->polled_ & UV_READABLE) != 0;
  const bool may_send = (self->polled_ & UV_WRITABLE) != 0;
  // An error of the socket comes as a status, and recv or send says which.
  if (may_send && (status < 0 || (events & UV_WRITABLE) != 0)) self->SendWaiting();
  if (may_read && (status < 0 || (events & UV_READABLE) != 0)) self->Receive();
  // With an error uv has stopped polling.
  if (status < 0) self->polled_ = 0;
  self->Poll();
  const uint32_t flags = self->Settle();
  if (flags != 0) self->Tell(flags);
  // `self` may be gone.
  (void)napi_close_handle_scope(env, scope);
}

void Connection::SendWaiting() {
  if (poll_ != nullptr) {
    Send(&out_);
    recorded_ = out_.size();
    if (!broken_) Account(0);
  }
  Left();
  if (untaken() < kEnough) {
    BeginOutput();
    Encrypt();
    EndWhenDue();
    EndOutput();
  }
}

uint32_t Connection::Settle() {
  if (destroy_wanted_ && !asking_) {
    Destroy();
    // Nobody hears of it any more.
    data_length_ = 0;
  }
  uint32_t flags = 0;
  double* const state = thread_->state;
  if (data_length_ > 0) {
    flags |= kDataFlag;
    state[kOffset] = static_cast<double>(data_start_);
    state[kLength] = static_cast<double>(data_length_);
    data_length_ = 0;
    if (thread_->slab_is_new) {
      flags |= kSlabFlag;
      thread_->slab_is_new = false;
    }
  }
  if (!facts_.empty()) flags |= kFactsFlag;
  // What was not encrypted before a failure never is.
  const size_t pending = (failed_ ? 0 : plain_.size()) + untaken();
  state[kPending] = static_cast<double>(pending);
  state[kUnsent] = static_cast<double>(plain_.size() + (encrypted_ - taken_plain_));
  if (was_full_ && pending < kEnough) flags |= kDrainFlag;
  was_full_ = pending >= kEnough;
  if (poll_ == nullptr && !out_.empty()) flags |= kOutputFlag;
  return flags;
}

/** The one place from which JavaScript is called. `this` may be gone behind it. */
void Connection::Tell(uint32_t flags) {
  Thread* thread = thread_;
  napi_env env = thread->env;
  napi_value self, dispatch, argument, error;
  if (napi_get_reference_value(env, wrapper, &self) != napi_ok || self == nullptr ||
      napi_get_reference_value(env, thread->dispatch, &dispatch) != napi_ok ||
      napi_create_uint32(env, flags, &argument) != napi_ok) {
    return;
  }
  (void)napi_make_callback(env, thread->async, self, dispatch, 1, &argument, nullptr);
  bool thrown = false;
  if (napi_is_exception_pending(env, &thrown) == napi_ok && thrown &&
      napi_get_and_clear_last_exception(env, &error) == napi_ok) {
    // What a callback throws is the program's to hear of, as from any other event.
    (void)napi_fatal_exception(env, error);
  }
}

void Connection::Destroy() {
  Close();
  if (asking_) {
    // The end of the call that asks does it: see `Settle`.
    destroy_wanted_ = true;
    return;
  }
  destroy_wanted_ = false;
  FreeSession();
  held_.Free();
  plain_.Free();
  out_.Free();
  unfed_.Free();
}

// The JavaScript face ----------------------------------------------------------------------------

/** What a method was called on and with. */
struct Call {
  static constexpr size_t kMost = 4;
  size_t count = kMost;
  napi_value arguments[kMost];
  napi_value self;
  Thread* thread;

  bool Read(napi_env env, napi_callback_info info) {
    void* data;
    if (napi_get_cb_info(env, info, &count, arguments, &self, &data) != napi_ok) {
      Fail(env);
      return false;
    }
    thread = static_cast<Thread*>(data);
    return true;
  }
};

/** What an object wraps. Null: a TypeError was thrown. */
void* Unwrap(napi_env env, napi_value object, const napi_type_tag* tag, const char* message) {
  bool is_one = false;
  napi_valuetype type;
  void* data = nullptr;
  if (napi_typeof(env, object, &type) != napi_ok || type != napi_object ||
      napi_check_object_type_tag(env, object, tag, &is_one) != napi_ok || !is_one ||
      napi_unwrap(env, object, &data) != napi_ok || data == nullptr) {
    ThrowType(env, message);
    return nullptr;
  }
  return data;
}

Connection* ConnectionOf(napi_env env, napi_value object) {
  return static_cast<Connection*>(
      Unwrap(env, object, &kConnectionTag, "Not called on a Connection"));
}

/** The same, of one that is not destroyed. */
Connection* LivingOf(napi_env env, napi_value object) {
  Connection* connection = ConnectionOf(env, object);
  if (connection != nullptr && connection->session() == nullptr) {
    ThrowError(env, "ERR_CLOSED", "The connection is destroyed");
    return nullptr;
  }
  return connection;
}

/** The same, of one that OpenSSL may be entered with: not within the function that chooses the protocol. */
Connection* IdleOf(napi_env env, napi_value object) {
  Connection* connection = LivingOf(env, object);
  if (connection != nullptr && connection->asking()) {
    ThrowError(env, "ERR_NATIVE", "The connection waits for an answer");
    return nullptr;
  }
  return connection;
}

/** False: a TypeError was thrown. */
bool BytesOf(napi_env env, napi_value value, const uint8_t** data, size_t* length) {
  bool is_typedarray = false;
  napi_typedarray_type type = napi_int8_array;
  void* bytes = nullptr;
  if (napi_is_typedarray(env, value, &is_typedarray) != napi_ok || !is_typedarray ||
      napi_get_typedarray_info(env, value, &type, length, &bytes, nullptr, nullptr) != napi_ok ||
      type != napi_uint8_array) {
    ThrowType(env, "A Uint8Array is needed");
    return false;
  }
  *data = static_cast<const uint8_t*>(bytes);
  return true;
}

bool BooleanOf(napi_env env, napi_value value, bool* result) {
  napi_valuetype type;
  if (napi_typeof(env, value, &type) != napi_ok || type != napi_boolean ||
      napi_get_value_bool(env, value, result) != napi_ok) {
    ThrowType(env, "A boolean is needed");
    return false;
  }
  return true;
}

napi_value Number(napi_env env, double number) {
  napi_value value;
  TRY(napi_create_double(env, number, &value));
  return value;
}

napi_value Word(napi_env env, uint32_t word) {
  napi_value value;
  TRY(napi_create_uint32(env, word, &value));
  return value;
}

napi_value Copy(napi_env env, const void* data, size_t length) {
  napi_value buffer;
  TRY(napi_create_buffer_copy(env, length, data, nullptr, &buffer));
  return buffer;
}

napi_value Text(napi_env env, const char* text) {
  napi_value value;
  if (text == nullptr) {
    TRY(napi_get_null(env, &value));
  } else {
    TRY(napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &value));
  }
  return value;
}

/** What came by the wire: one character for each byte, as Node has it. */
napi_value Latin1(napi_env env, const char* text, size_t length) {
  napi_value value;
  TRY(napi_create_string_latin1(env, text, length, &value));
  return value;
}

/** The name that the client asks for; null without one. */
napi_value NameOf(napi_env env, SSL* ssl) {
  const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
  return name == nullptr ? Text(env, nullptr) : Latin1(env, name, NAPI_AUTO_LENGTH);
}

// Contexts

/** `context(make)`: calls `make`, and gives a context of the SSL_CTX that is made within; null without one. */
napi_value MakeContext(napi_env env, napi_callback_info info, bool of_ssl) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  napi_valuetype type;
  TRY(napi_typeof(env, call.arguments[0], &type));
  if (type != napi_function) return ThrowType(env, "A function is needed");
  SSL_CTX* ssl_context = nullptr;
  napi_value undefined, object;
  TRY(napi_get_undefined(env, &undefined));
  {
    Capture capture;
    if (napi_call_function(env, undefined, call.arguments[0], 0, nullptr, nullptr) != napi_ok) {
      return Fail(env);
    }
    ssl_context = of_ssl ? capture.TakeContextOfSsl() : capture.TakeContext();
  }
  if (ssl_context == nullptr) {
    TRY(napi_get_null(env, &object));
    return object;
  }
  Context* context = new (std::nothrow) Context(ssl_context, !of_ssl);
  if (context == nullptr) {
    SSL_CTX_free(ssl_context);
    return ThrowError(env, nullptr, "Out of memory");
  }
  // One that others use keeps its own callbacks.
  if (!of_ssl) Session::Prepare(ssl_context);
  const auto finalize = [](napi_env, void* data, void*) { delete static_cast<Context*>(data); };
  if (napi_create_object(env, &object) != napi_ok ||
      napi_type_tag_object(env, object, &kContextTag) != napi_ok ||
      napi_wrap(env, object, context, finalize, nullptr, nullptr) != napi_ok) {
    delete context;
    return Fail(env);
  }
  return object;
}

napi_value OwnContext(napi_env env, napi_callback_info info) {
  return MakeContext(env, info, false);
}

napi_value ForeignContext(napi_env env, napi_callback_info info) {
  return MakeContext(env, info, true);
}

// Connections

/** Reads `options[name]`. False: an exception is pending. */
bool Get(napi_env env, napi_value options, const char* name, napi_valuetype* type,
         napi_value* value) {
  if (napi_get_named_property(env, options, name, value) != napi_ok ||
      napi_typeof(env, *value, type) != napi_ok) {
    Fail(env);
    return false;
  }
  return true;
}

bool GetBoolean(napi_env env, napi_value options, const char* name, bool* result) {
  napi_valuetype type;
  napi_value value;
  if (!Get(env, options, name, &type, &value)) return false;
  return type == napi_undefined || BooleanOf(env, value, result);
}

bool GetInteger(napi_env env, napi_value options, const char* name, int* result) {
  napi_valuetype type;
  napi_value value;
  if (!Get(env, options, name, &type, &value)) return false;
  if (type == napi_undefined) return true;
  if (type != napi_number || napi_get_value_int32(env, value, result) != napi_ok) {
    ThrowType(env, "A number is needed");
    return false;
  }
  return true;
}

bool GetBytes(napi_env env, napi_value options, const char* name, std::string* result) {
  napi_valuetype type;
  napi_value value;
  if (!Get(env, options, name, &type, &value)) return false;
  if (type == napi_undefined) return true;
  const uint8_t* data;
  size_t length;
  if (!BytesOf(env, value, &data, &length)) return false;
  if (length > 0) result->assign(reinterpret_cast<const char*>(data), length);
  return true;
}

void FinalizeConnection(napi_env env, void* data, void*) {
  Connection* connection = static_cast<Connection*>(data);
  // It can only fail for a null argument.
  if (connection->wrapper != nullptr) (void)napi_delete_reference(env, connection->wrapper);
  delete connection;
}

/** `new Connection(context, options)` */
napi_value ConstructConnection(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  napi_value constructor;
  TRY(napi_get_new_target(env, info, &constructor));
  if (constructor == nullptr) return ThrowType(env, "A Connection is made by new");
  Context* context = static_cast<Context*>(
      Unwrap(env, call.arguments[0], &kContextTag, "A context is needed"));
  if (context == nullptr) return nullptr;
  // Callbacks of the other one would take an SSL of ours for one of theirs.
  if (!context->own) return ThrowType(env, "A context of the engine's own is needed");
  napi_valuetype type;
  TRY(napi_typeof(env, call.arguments[1], &type));
  if (type != napi_object) return ThrowType(env, "Options are needed");
  napi_value given = call.arguments[1];
  Connection::Options options;
  if (!GetBoolean(env, given, "server", &options.server) ||
      !GetInteger(env, given, "verify", &options.verify) ||
      !GetBoolean(env, given, "records", &options.records) ||
      !GetBoolean(env, given, "bytes", &options.bytes) ||
      !GetBoolean(env, given, "secrets", &options.secrets) ||
      !GetBoolean(env, given, "tickets", &options.tickets) ||
      !GetBoolean(env, given, "wantsCertificate", &options.wants_certificate) ||
      !GetBoolean(env, given, "alpnCallback", &options.alpn_callback) ||
      !GetInteger(env, given, "ticketCount", &options.ticket_count) ||
      !GetBytes(env, given, "servername", &options.servername) ||
      !GetBytes(env, given, "session", &options.session) ||
      !GetBytes(env, given, "alpn", &options.alpn)) {
    return nullptr;
  }
  std::unique_ptr<Connection> connection(new (std::nothrow) Connection(call.thread));
  if (connection == nullptr) return ThrowError(env, nullptr, "Out of memory");
  const char* problem = connection->Init(context->ssl_context, std::move(options));
  if (problem != nullptr) return ThrowError(env, "ERR_NATIVE", problem);
  TRY(napi_type_tag_object(env, call.self, &kConnectionTag));
  // Node's object of the SSL_CTX is what issues tickets, so it has to last as long as the SSL does.
  const napi_property_descriptor held = {"context", nullptr, nullptr, nullptr, nullptr, call.arguments[0],
                                         napi_default, nullptr};
  TRY(napi_define_properties(env, call.self, 1, &held));
  TRY(napi_wrap(env, call.self, connection.get(), FinalizeConnection, nullptr, nullptr));
  Connection* owned = connection.release();
  // A reference of our own: one that `napi_wrap` gives may not be deleted in the finalizer of its object.
  TRY(napi_create_reference(env, call.self, 0, &owned->wrapper));
  return call.self;
}

/** `open(descriptor)`: null, or why it cannot be polled. */
napi_value OpenConnection(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  Connection* connection = IdleOf(env, call.self);
  if (connection == nullptr) return nullptr;
  int descriptor = -1;
  napi_valuetype type;
  TRY(napi_typeof(env, call.arguments[0], &type));
  if (type != napi_number) return ThrowType(env, "A descriptor is needed");
  TRY(napi_get_value_int32(env, call.arguments[0], &descriptor));
  if (connection->polls()) return ThrowError(env, "ERR_NATIVE", "It is open already");
  return Text(env, connection->Open(descriptor));
}

/** A method that takes bytes, of at most kReceive. */
template <uint32_t (Connection::*kMethod)(const uint8_t*, size_t)>
napi_value WithBytes(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  Connection* connection = IdleOf(env, call.self);
  const uint8_t* data;
  size_t length;
  if (connection == nullptr || !BytesOf(env, call.arguments[0], &data, &length)) return nullptr;
  if (length > kReceive) {
    if (napi_throw_range_error(env, "ERR_OUT_OF_RANGE", "Too many bytes at once") != napi_ok) {
      return Fail(env);
    }
    return nullptr;
  }
  return Word(env, (connection->*kMethod)(data, length));
}

/** A method without arguments. */
template <uint32_t (Connection::*kMethod)()>
napi_value Plain(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  Connection* connection = LivingOf(env, call.self);
  if (connection == nullptr) return nullptr;
  return Word(env, (connection->*kMethod)());
}

template <void (Connection::*kMethod)()>
napi_value Void(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  Connection* connection = ConnectionOf(env, call.self);
  if (connection != nullptr) (connection->*kMethod)();
  return nullptr;
}

/** A method that takes a boolean, and tells. */
template <uint32_t (Connection::*kMethod)(bool)>
napi_value Asked(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  Connection* connection = IdleOf(env, call.self);
  bool value = false;
  if (connection == nullptr || !BooleanOf(env, call.arguments[0], &value)) return nullptr;
  return Word(env, (connection->*kMethod)(value));
}

template <void (Connection::*kMethod)(bool)>
napi_value WithBoolean(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  Connection* connection = ConnectionOf(env, call.self);
  bool value = false;
  if (connection == nullptr || !BooleanOf(env, call.arguments[0], &value)) return nullptr;
  (connection->*kMethod)(value);
  return nullptr;
}

/** `write(bytes, flush)` */
napi_value WriteBytes(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  Connection* connection = LivingOf(env, call.self);
  const uint8_t* data;
  size_t length;
  bool flush = false;
  if (connection == nullptr || !BytesOf(env, call.arguments[0], &data, &length) ||
      !BooleanOf(env, call.arguments[1], &flush)) {
    return nullptr;
  }
  return Word(env, connection->Write(data, length, flush));
}

/** `taken(length)` */
napi_value Taken(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  Connection* connection = ConnectionOf(env, call.self);
  if (connection == nullptr) return nullptr;
  uint32_t length = 0;
  napi_valuetype type;
  TRY(napi_typeof(env, call.arguments[0], &type));
  if (type != napi_number) return ThrowType(env, "A number is needed");
  TRY(napi_get_value_uint32(env, call.arguments[0], &length));
  return Word(env, connection->Taken(length));
}

/** `output()`: what another transport is to send. */
napi_value Output(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  Connection* connection = ConnectionOf(env, call.self);
  if (connection == nullptr) return nullptr;
  napi_value buffer = Copy(env, connection->out().data(), connection->out().size());
  if (buffer != nullptr) connection->Fetched();
  return buffer;
}

/** `trailing(take)`: what came behind the peer's close_notify, or its length. */
napi_value Trailing(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  Connection* connection = ConnectionOf(env, call.self);
  bool take = false;
  if (connection == nullptr || !BooleanOf(env, call.arguments[0], &take)) return nullptr;
  Bytes& unfed = connection->unfed();
  if (!take) return Number(env, static_cast<double>(unfed.size()));
  napi_value buffer = Copy(env, unfed.data(), unfed.size());
  if (buffer != nullptr) unfed.Clear();
  return buffer;
}

/** `discard()`: how many bytes that were written are thrown away. */
napi_value Discard(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  Connection* connection = ConnectionOf(env, call.self);
  if (connection == nullptr) return nullptr;
  return Number(env, static_cast<double>(connection->Discard()));
}

/** `facts()`: five values for each: kind, three numbers, and bytes, text or null. */
napi_value Facts(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  Connection* connection = ConnectionOf(env, call.self);
  if (connection == nullptr) return nullptr;
  std::vector<Fact> facts;
  facts.swap(connection->facts());
  napi_value array;
  TRY(napi_create_array_with_length(env, facts.size() * 5, &array));
  uint32_t at = 0;
  for (const Fact& fact : facts) {
    TRY(napi_set_element(env, array, at++, Word(env, static_cast<uint32_t>(fact.kind))));
    for (const double number : fact.numbers) {
      TRY(napi_set_element(env, array, at++, Number(env, number)));
    }
    napi_value data = nullptr;
    switch (fact.form) {
      case Fact::Form::kNone:
        TRY(napi_get_null(env, &data));
        break;
      case Fact::Form::kText:
        TRY(napi_create_string_utf8(env, fact.data.data(), fact.data.size(), &data));
        break;
      case Fact::Form::kBytes:
        data = Copy(env, fact.data.data(), fact.data.size());
        break;
    }
    if (data == nullptr) return nullptr;
    TRY(napi_set_element(env, array, at++, data));
  }
  return array;
}

/** An array of bytes. */
napi_value All(napi_env env, const std::vector<std::string>& list) {
  napi_value array;
  TRY(napi_create_array_with_length(env, list.size(), &array));
  uint32_t at = 0;
  for (const std::string& one : list) {
    napi_value bytes = Copy(env, one.data(), one.size());
    if (bytes == nullptr) return nullptr;
    TRY(napi_set_element(env, array, at++, bytes));
  }
  return array;
}

/** Bytes, or null where there are none. */
napi_value OrNull(napi_env env, const std::string& bytes) {
  return bytes.empty() ? Text(env, nullptr) : Copy(env, bytes.data(), bytes.size());
}

/** `info()`: what the handshake agreed on. */
napi_value Info(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  Connection* connection = LivingOf(env, call.self);
  if (connection == nullptr) return nullptr;
  SSL* ssl = connection->session()->ssl();
  const SSL_CIPHER* cipher = SSL_get_current_cipher(ssl);
  const uint8_t* protocol = nullptr;
  unsigned length = 0;
  SSL_get0_alpn_selected(ssl, &protocol, &length);
  const Judgement judgement = JudgementOf(ssl);
  napi_value object, resumed, has_certificate;
  TRY(napi_create_object(env, &object));
  TRY(napi_get_boolean(env, HasCertificate(ssl), &has_certificate));
  TRY(napi_get_boolean(env, SSL_session_reused(ssl) == 1, &resumed));
  const struct {
    const char* name;
    napi_value value;
  } members[] = {
      {"protocol", Text(env, SSL_get_version(ssl))},
      {"cipher", Text(env, cipher == nullptr ? nullptr : SSL_CIPHER_standard_name(cipher))},
      {"alpn", length == 0 ? Text(env, nullptr)
                           : Latin1(env, reinterpret_cast<const char*>(protocol), length)},
      {"servername", NameOf(env, ssl)},
      {"resumed", resumed},
      {"hasCertificate", has_certificate},
      {"dhBits", Number(env, DhBits(ssl))},
      {"code", Text(env, judgement.code)},
      {"reason", Text(env, judgement.reason)},
  };
  for (const auto& member : members) {
    if (member.value == nullptr) return nullptr;
    TRY(napi_set_named_property(env, object, member.name, member.value));
  }
  return object;
}

/** `cut()` */
napi_value GetCut(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  Connection* connection = LivingOf(env, call.self);
  if (connection == nullptr) return nullptr;
  return Number(env, static_cast<double>(connection->session()->cut()));
}

/** `bytes(sent)`: how many went by the descriptor. */
napi_value GetBytesOfWay(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  Connection* connection = ConnectionOf(env, call.self);
  bool sent = false;
  if (connection == nullptr || !BooleanOf(env, call.arguments[0], &sent)) return nullptr;
  return Number(env, static_cast<double>(sent ? connection->sent() : connection->received()));
}

/** `isDestroyed()` */
napi_value IsDestroyed(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  Connection* connection = ConnectionOf(env, call.self);
  if (connection == nullptr) return nullptr;
  napi_value value;
  TRY(napi_get_boolean(env, connection->session() == nullptr, &value));
  return value;
}

/** `servername()`: the name that the client asks for, also within the handshake. */
napi_value Servername(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  Connection* connection = LivingOf(env, call.self);
  if (connection == nullptr) return nullptr;
  return NameOf(env, connection->session()->ssl());
}

/** A method that gives what an SSL knows. */
template <typename Known, Known (*kAsk)(SSL*), napi_value (*kGive)(napi_env, const Known&)>
napi_value Ask(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  Connection* connection = LivingOf(env, call.self);
  return connection == nullptr ? nullptr : kGive(env, kAsk(connection->session()->ssl()));
}

/** `identify(context, server)`: whether OpenSSL takes the certificates of that context. */
napi_value Identify(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  Connection* connection = IdleOf(env, call.self);
  if (connection == nullptr) return nullptr;
  Context* context = static_cast<Context*>(
      Unwrap(env, call.arguments[0], &kContextTag, "A context is needed"));
  bool server = false;
  if (context == nullptr || !BooleanOf(env, call.arguments[1], &server)) return nullptr;
  napi_value value;
  TRY(napi_get_boolean(
      env, UseIdentity(connection->session()->ssl(), context->ssl_context, server), &value));
  return value;
}

/** `exportKeyingMaterial(length, label, context)`: null where OpenSSL refuses. `context` may be undefined. */
napi_value ExportKeyingMaterial(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  Connection* connection = IdleOf(env, call.self);
  uint32_t length = 0;
  const uint8_t *label, *context = nullptr;
  size_t label_length, context_length = 0;
  napi_valuetype type, context_type;
  if (connection == nullptr) return nullptr;
  TRY(napi_typeof(env, call.arguments[0], &type));
  TRY(napi_typeof(env, call.arguments[2], &context_type));
  if (type != napi_number) return ThrowType(env, "A number is needed");
  TRY(napi_get_value_uint32(env, call.arguments[0], &length));
  if (!BytesOf(env, call.arguments[1], &label, &label_length)) return nullptr;
  const bool has_context = context_type != napi_undefined;
  if (has_context && !BytesOf(env, call.arguments[2], &context, &context_length)) return nullptr;
  constexpr uint32_t kMost = 1 << 20;
  if (length > kMost) {
    if (napi_throw_range_error(env, "ERR_OUT_OF_RANGE", "Too much keying material") != napi_ok) {
      return Fail(env);
    }
    return nullptr;
  }
  CleanErrorQueue errors;
  std::string material(length, '\0');
  const int done = SSL_export_keying_material(
      connection->session()->ssl(), reinterpret_cast<uint8_t*>(&material[0]), material.size(),
      reinterpret_cast<const char*>(label), label_length, context, context_length, has_context);
  napi_value value = OrNull(env, done == 1 ? material : std::string());
  OPENSSL_cleanse(&material[0], material.size());
  return value;
}

/** `slab()`: the memory that `state` speaks of. */
napi_value Slab(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  napi_value value;
  if (call.thread->slab_reference == nullptr) return Text(env, nullptr);
  TRY(napi_get_reference_value(env, call.thread->slab_reference, &value));
  return value;
}

/** `setDispatch(function)`: what is called, as a method of a connection, with flags. */
napi_value SetDispatch(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Read(env, info)) return nullptr;
  napi_valuetype type;
  TRY(napi_typeof(env, call.arguments[0], &type));
  if (type != napi_function) return ThrowType(env, "A function is needed");
  if (call.thread->dispatch != nullptr) {
    TRY(napi_delete_reference(env, call.thread->dispatch));
    call.thread->dispatch = nullptr;
  }
  TRY(napi_create_reference(env, call.arguments[0], 1, &call.thread->dispatch));
  return nullptr;
}

/** The environment ends: what polls is closed, and nothing calls JavaScript any more. */
void OnEnvironmentEnd(napi_async_cleanup_hook_handle, void* data) {
  Thread* thread = static_cast<Thread*>(data);
  thread->ended = true;
  while (thread->first != nullptr) thread->first->Close();
  if (thread->timer != nullptr) {
    thread->closing++;
    uv_close(reinterpret_cast<uv_handle_t*>(thread->timer), [](uv_handle_t* handle) {
      Thread* owner = static_cast<Thread*>(handle->data);
      delete reinterpret_cast<uv_timer_t*>(handle);
      owner->closing--;
      owner->EndIfDone();
    });
    thread->timer = nullptr;
  }
  // They can only fail for a null argument, or one that is deleted already.
  for (napi_ref* reference : {&thread->dispatch, &thread->slab_reference}) {
    if (*reference != nullptr) (void)napi_delete_reference(thread->env, *reference);
    *reference = nullptr;
  }
  if (thread->async != nullptr) (void)napi_async_destroy(thread->env, thread->async);
  thread->async = nullptr;
  thread->EndIfDone();
}

napi_property_descriptor Method(const char* name, napi_callback callback, Thread* thread) {
  return {name, nullptr, callback, nullptr, nullptr, nullptr, napi_default_method, thread};
}

bool Define(napi_env env, napi_value exports, Thread* thread) {
  napi_value name, state_buffer, state, connection_class;
  const auto release = [](napi_env, void*, void* hint) { static_cast<Thread*>(hint)->Release(); };
  if (napi_get_uv_event_loop(env, &thread->loop) != napi_ok ||
      napi_create_string_utf8(env, "close-notify-native", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_async_init(env, nullptr, name, &thread->async) != napi_ok ||
      napi_create_external_arraybuffer(env, thread->state, sizeof thread->state, release, thread,
                                       &state_buffer) != napi_ok) {
    return false;
  }
  thread->owners++;
  if (napi_create_typedarray(env, napi_float64_array, kStateLength, state_buffer, 0, &state) !=
      napi_ok) {
    return false;
  }
  const napi_property_descriptor methods[] = {
      Method("open", OpenConnection, thread),
      Method("start", WithBytes<&Connection::Start>, thread),
      Method("feed", WithBytes<&Connection::Feed>, thread),
      Method("write", WriteBytes, thread),
      Method("flush", Plain<&Connection::Flush>, thread),
      Method("closeWrite", Plain<&Connection::CloseWrite>, thread),
      Method("updateKeys", Asked<&Connection::UpdateKeys>, thread),
      Method("discard", Discard, thread),
      Method("output", Output, thread),
      Method("taken", Taken, thread),
      Method("break", Void<&Connection::Break>, thread),
      Method("proceed", Asked<&Connection::Proceed>, thread),
      Method("identify", Identify, thread),
      Method("setReading", WithBoolean<&Connection::SetReading>, thread),
      Method("setReference", WithBoolean<&Connection::SetReference>, thread),
      Method("trailing", Trailing, thread),
      Method("cut", GetCut, thread),
      Method("isDestroyed", IsDestroyed, thread),
      Method("bytes", GetBytesOfWay, thread),
      Method("facts", Facts, thread),
      Method("info", Info, thread),
      Method("servername", Servername, thread),
      Method("certificate", Ask<std::string, CertificateOf, OrNull>, thread),
      Method("chain", Ask<std::vector<std::string>, ChainOf, All>, thread),
      Method("session", Ask<std::string, SessionOf, OrNull>, thread),
      Method("exportKeyingMaterial", ExportKeyingMaterial, thread),
      Method("close", Void<&Connection::Close>, thread),
      Method("destroy", Void<&Connection::Destroy>, thread),
  };
  if (napi_define_class(env, "Connection", NAPI_AUTO_LENGTH, ConstructConnection, thread,
                        sizeof methods / sizeof *methods, methods, &connection_class) != napi_ok) {
    return false;
  }
  const napi_property_descriptor members[] = {
      {"Connection", nullptr, nullptr, nullptr, nullptr, connection_class, napi_enumerable, nullptr},
      {"state", nullptr, nullptr, nullptr, nullptr, state, napi_enumerable, nullptr},
      Method("ownContext", OwnContext, thread),
      Method("foreignContext", ForeignContext, thread),
      Method("slab", Slab, thread),
      Method("setDispatch", SetDispatch, thread),
  };
  return napi_define_properties(env, exports, sizeof members / sizeof *members, members) ==
             napi_ok &&
         napi_add_async_cleanup_hook(env, OnEnvironmentEnd, thread, &thread->cleanup) == napi_ok;
}

}  // namespace

EngineCounts LiveOfEngine() { return {live_connections, live_sessions, live_contexts}; }

bool DefineEngine(napi_env env, napi_value exports) {
  Thread* thread = new (std::nothrow) Thread();
  if (thread == nullptr) return false;
  thread->env = env;
  thread->in.reset(new (std::nothrow) uint8_t[kReceive]);
  if (thread->in != nullptr && Session::Install() && Capture::Install() &&
      Define(env, exports, thread)) {
    return true;
  }
  thread->Release();
  return false;
}

}  // namespace close_notify
