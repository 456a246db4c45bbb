// A TLS session: OpenSSL between bytes that came and bytes that go.
//
// Theory of operation
// ===================
//
// One BIO of our own stands under the SSL. It reads from a piece of memory that the caller has set (`SetInput`), and
// writes behind a buffer of the caller's. OpenSSL reads a record in two steps, its header and then exactly its body,
// for as long as SSL_set_read_ahead is off, which it is. So what is left of the input behind the peer's close_notify
// is exactly what the peer sent behind it.
//
// Which alert came, the message callback alone says. `SSL_get_shutdown` and SSL_ERROR_ZERO_RETURN are what a fatal
// alert leaves behind as well, and OpenSSL 3.5 gives neither for a close_notify behind a warning. So the return value
// of SSL_read says that the session is over, and the callback says how. An alert counts as authenticated when it came
// behind the first Finished of its sender, whose MAC OpenSSL checks before it reads on.
//
// Behind an error, or the end, the SSL is never read again: a second SSL_read would say ZERO_RETURN. What it has
// written (our alert) is in the output all the same.
//
// Each call clears OpenSSL's error queue first, since SSL_get_error looks at it, and leaves it empty, since Node would
// take what it finds there for its own.

#include "session.h"

#include <openssl/bio.h>
#include <openssl/err.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "error_queue.h"

namespace close_notify {
namespace {

constexpr uint8_t kCertificateRequest = 13;  // HandshakeType, RFC 9846, section 4
constexpr uint8_t kFinished = 20;
constexpr size_t kHandshakeHeader = 4;  // type, and three bytes of length
constexpr size_t kRecordHeader = 5;     // type, version, and two bytes of length
constexpr uint8_t kWarning = 1;
constexpr uint8_t kFatal = 2;
constexpr uint8_t kCloseNotify = 0;
constexpr uint8_t kUserCanceled = 90;
/** SSL_write takes an int, and records have 16 KB. */
constexpr size_t kMostWritten = 1 << 20;
/** The least memory that a buffer has. */
constexpr size_t kLeast = 1024;

int ssl_index = -1;
BIO_METHOD* bio_method = nullptr;

/** Node's code for a reason of OpenSSL's: `wrong version number` is ERR_SSL_WRONG_VERSION_NUMBER. */
std::string CodeOf(const char* reason) {
  std::string code = "ERR_SSL_";
  for (const char* at = reason; *at != '\0'; at++) {
    const char letter = *at;
    if (letter == ' ') {
      code += '_';
    } else {
      code += letter >= 'a' && letter <= 'z' ? static_cast<char>(letter - 'a' + 'A') : letter;
    }
  }
  return code;
}

int AcceptServername(SSL*, int*, void*) {
  // That it is acknowledged; SSL_get_servername says which.
  return SSL_TLSEXT_ERR_OK;
}

}  // namespace

// Bytes ------------------------------------------------------------------------------------------

bool Bytes::Append(const uint8_t* data, size_t length) {
  if (length == 0) return true;
  if (end_ + length > capacity_ && start_ > 0) {
    memmove(data_, data_ + start_, size());
    end_ -= start_;
    start_ = 0;
  }
  if (end_ + length > capacity_) {
    const size_t capacity = std::max({end_ + length, capacity_ * 2, kLeast});
    uint8_t* grown = static_cast<uint8_t*>(realloc(data_, capacity));
    if (grown == nullptr) return false;
    data_ = grown;
    capacity_ = capacity;
  }
  memcpy(data_ + end_, data, length);
  end_ += length;
  return true;
}

void Bytes::Consume(size_t length) {
  start_ += length;
  if (start_ == end_) start_ = end_ = 0;
}

void Bytes::Swap(Bytes& other) {
  std::swap(data_, other.data_);
  std::swap(start_, other.start_);
  std::swap(end_, other.end_);
  std::swap(capacity_, other.capacity_);
}

void Bytes::Free() {
  free(data_);
  data_ = nullptr;
  start_ = end_ = capacity_ = 0;
}

// The BIO ----------------------------------------------------------------------------------------

int Session::BioCreate(BIO* bio) {
  BIO_set_init(bio, 1);
  return 1;
}

int Session::BioRead(BIO* bio, char* out, int length) {
  Session* session = static_cast<Session*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  if (session->in_length_ == 0) {
    BIO_set_retry_read(bio);
    return -1;
  }
  const size_t taken = std::min(static_cast<size_t>(length), session->in_length_);
  memcpy(out, session->in_, taken);
  session->in_ += taken;
  session->in_length_ -= taken;
  session->taken_ += taken;
  return static_cast<int>(taken);
}

int Session::BioWrite(BIO* bio, const char* data, int length) {
  Session* session = static_cast<Session*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  // OpenSSL answers a KeyUpdate behind our close_notify, too, where nothing may be sent any more (RFC 9846, 6.1).
  if (session->close_sent_ && !session->closing_) return length;
  if (!session->output_->Append(reinterpret_cast<const uint8_t*>(data),
                                static_cast<size_t>(length))) {
    session->out_of_memory_ = true;
    return -1;
  }
  return length;
}

long Session::BioControl(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH; }

// Setting up -------------------------------------------------------------------------------------

bool Session::Install() {
  static const bool installed = [] {
    CleanErrorQueue errors;
    ssl_index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
    const int type = BIO_get_new_index();
    if (ssl_index < 0 || type < 0) return false;
    bio_method = BIO_meth_new(type | BIO_TYPE_SOURCE_SINK, "close-notify");
    return bio_method != nullptr && BIO_meth_set_read(bio_method, BioRead) == 1 &&
           BIO_meth_set_write(bio_method, BioWrite) == 1 &&
           BIO_meth_set_ctrl(bio_method, BioControl) == 1 &&
           BIO_meth_set_create(bio_method, BioCreate) == 1;
  }();
  return installed;
}

void Session::Prepare(SSL_CTX* context) {
  SSL_CTX_sess_set_new_cb(context, [](SSL* ssl, SSL_SESSION* session) {
    if (Session* self = Of(ssl)) self->events_->OnTicket(session);
    return 0;  // it is not ours
  });
  SSL_CTX_set_keylog_callback(context, [](const SSL* ssl, const char* line) {
    if (Session* self = Of(ssl)) self->events_->OnSecret(line);
  });
  SSL_CTX_set_tlsext_servername_callback(context, AcceptServername);
  SSL_CTX_set_alpn_select_cb(
      context,
      [](SSL* ssl, const unsigned char** out, unsigned char* out_length, const unsigned char* in,
         unsigned in_length, void*) {
        Session* self = Of(ssl);
        return self == nullptr ? SSL_TLSEXT_ERR_NOACK
                               : self->events_->OnAlpn(out, out_length, in, in_length);
      },
      nullptr);
}

bool Session::Init(SSL_CTX* context, bool server, Events* events, Bytes* output) {
  CleanErrorQueue errors;
  events_ = events;
  output_ = output;
  ssl_ = SSL_new(context);
  if (ssl_ == nullptr) return false;
  BIO* bio = BIO_new(bio_method);
  if (bio == nullptr) return false;
  BIO_set_data(bio, this);
  SSL_set_bio(ssl_, bio, bio);
  if (SSL_set_ex_data(ssl_, ssl_index, this) != 1) return false;
  SSL_set_msg_callback(ssl_, OnMessage);
  SSL_set_mode(ssl_, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_set_read_ahead(ssl_, 0);
  SSL_set_cert_cb(
      ssl_,
      [](SSL* ssl, void*) {
        Session* self = Of(ssl);
        return self == nullptr ? 1 : self->events_->OnCertificate();
      },
      nullptr);
  if (server) {
    SSL_set_info_callback(ssl_, OnInfo);
    SSL_set_accept_state(ssl_);
  } else {
    SSL_set_connect_state(ssl_);
  }
  return true;
}

Session::~Session() {
  if (ssl_ == nullptr) return;
  CleanErrorQueue errors;
  SSL_set_ex_data(ssl_, ssl_index, nullptr);
  SSL_free(ssl_);
}

Session* Session::Of(const SSL* ssl) {
  return static_cast<Session*>(SSL_get_ex_data(ssl, ssl_index));
}

void Session::SetInput(const uint8_t* data, size_t length) {
  in_ = data;
  in_length_ = length;
}

// What crosses the wire --------------------------------------------------------------------------

void Session::OnMessage(int sent, int version, int type, const void* bytes, size_t length, SSL* ssl,
                        void*) {
  Session* self = Of(ssl);
  if (self != nullptr) {
    self->Saw(sent != 0, version, type, static_cast<const uint8_t*>(bytes), length);
  }
}

void Session::Saw(bool sent, int version, int type, const uint8_t* bytes, size_t length) {
  // What is written behind our close_notify goes nowhere.
  if (sent && close_sent_ && !closing_) return;
  if (type == SSL3_RT_HEADER && length == kRecordHeader) {
    const uint16_t body = static_cast<uint16_t>(bytes[3] << 8 | bytes[4]);
    if (!sent) shown_ += kRecordHeader + body;
    events_->OnRecord(sent, bytes[0], body);
  } else if (type == SSL3_RT_ALERT && length == 2) {
    SawAlert(sent, version, bytes[0], bytes[1]);
  } else if (type == SSL3_RT_HANDSHAKE && length > kHandshakeHeader && bytes[0] == kFinished) {
    (sent ? own_finished_ : peer_finished_) = true;
  } else if (type == SSL3_RT_HANDSHAKE && length > kHandshakeHeader && !sent &&
             bytes[0] == kCertificateRequest) {
    events_->OnCertificateRequest(bytes + kHandshakeHeader, length - kHandshakeHeader);
  }
}

void Session::SawAlert(bool sent, int version, uint8_t level, uint8_t description) {
  const bool authenticated = sent ? own_finished_ : peer_finished_;
  const bool tls13 = version == TLS1_3_VERSION;
  // TLS 1.3 knows no warnings: its level is not looked at (RFC 9846, section 6).
  if (tls13 && authenticated && description == kCloseNotify) level = kWarning;
  // In the clear the version may not be known yet, and OpenSSL looks at it.
  const bool ends = description == kCloseNotify || (tls13 && authenticated
                                                        ? description != kUserCanceled
                                                        : level == kFatal);
  if (!ends) return;
  if (!sent) {
    // The first that ends the direction is the last that counts.
    if (closed_ || doomed_) return;
    if (authenticated && description == kCloseNotify && level == kWarning) {
      closed_ = true;
    } else {
      doomed_ = true;
    }
  }
  events_->OnAlert(sent, level, description, authenticated);
}

void Session::OnInfo(const SSL* ssl, int where, int) {
  if ((where & SSL_CB_HANDSHAKE_START) == 0) return;
  Session* self = Of(ssl);
  // In TLS 1.3 it is told of tickets and the like, too.
  if (self == nullptr || !self->established_ || SSL_version(ssl) >= TLS1_3_VERSION) return;
  self->events_->OnRenegotiation();
}

// The calls --------------------------------------------------------------------------------------

Session::Status Session::Handshake() {
  if (failed_) return Status::kFailed;
  CleanErrorQueue errors;
  const int result = SSL_do_handshake(ssl_);
  if (result != 1) return Outcome(result);
  established_ = true;
  return Status::kMore;
}

Session::Status Session::Read(uint8_t* out, size_t room, size_t* length) {
  *length = 0;
  if (failed_) return Status::kFailed;
  if (closed_) return Status::kClosed;
  CleanErrorQueue errors;
  if (SSL_read_ex(ssl_, out, room, length) == 1) return Status::kData;
  return Outcome(0);
}

Session::Status Session::Write(const uint8_t* data, size_t length, size_t* written) {
  *written = 0;
  if (failed_ || close_sent_) return Status::kFailed;
  CleanErrorQueue errors;
  while (*written < length) {
    size_t taken = 0;
    const size_t piece = std::min(length - *written, kMostWritten);
    if (SSL_write_ex(ssl_, data + *written, piece, &taken) != 1) return Outcome(0);
    *written += taken;
  }
  return Status::kData;
}

Session::Status Session::SendCloseNotify() {
  if (failed_) return Status::kFailed;
  if (close_sent_) return Status::kClosed;
  CleanErrorQueue errors;
  // Within a handshake OpenSSL refuses it, and that would be for good.
  if (!SSL_is_init_finished(ssl_)) return Status::kMore;
  close_sent_ = closing_ = true;
  const int result = SSL_shutdown(ssl_);
  closing_ = false;
  // Without memory it is not in the output either.
  if (result < 0 && (out_of_memory_ || SSL_get_error(ssl_, result) == SSL_ERROR_SSL)) {
    return Outcome(result);
  }
  return Status::kClosed;
}

Session::Status Session::UpdateKeys(bool request) {
  if (failed_ || close_sent_ || !established_ || SSL_version(ssl_) < TLS1_3_VERSION) {
    return Status::kFailed;
  }
  CleanErrorQueue errors;
  // Within a handshake OpenSSL refuses it.
  if (!SSL_is_init_finished(ssl_)) return Status::kMore;
  const int type = request ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED;
  if (SSL_key_update(ssl_, type) != 1 || SSL_do_handshake(ssl_) != 1) return Outcome(0);
  return Status::kData;
}

void Session::FreeBuffers() {
  // Within a record OpenSSL before 3.0.14 frees what it goes on to read (CVE-2024-4741).
  if (failed_ || cut() != Cut::kBoundary || SSL_pending(ssl_) > 0 || !SSL_is_init_finished(ssl_)) return;
  CleanErrorQueue errors;
  // It may refuse, and then they stay.
  (void)SSL_free_buffers(ssl_);
}

Session::Status Session::Outcome(int result) {
  if (out_of_memory_) return Fail("ERR_MEMORY_ALLOCATION_FAILED", "no memory for what is to be sent");
  switch (SSL_get_error(ssl_, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
      // OpenSSL goes on to wait behind an alert that it ignores.
      if (doomed_) return Fail("ERR_SSL_FATAL_ALERT", "the peer sent a fatal alert");
      return closed_ && established_ ? Status::kClosed : Status::kMore;
    case SSL_ERROR_WANT_X509_LOOKUP:
      return Status::kSuspended;
    default:
      break;
  }
  if (closed_ && established_) return Status::kClosed;
  const unsigned long error = ERR_peek_error();
  if (error == 0) {
    return Fail("ERR_SSL_UNEXPECTED_CLOSE", doomed_ ? "the peer sent a fatal alert"
                                                    : "TLS ended without a reason");
  }
  char message[256];
  ERR_error_string_n(error, message, sizeof message);
  const char* reason = ERR_reason_error_string(error);
  return Fail(CodeOf(reason != nullptr ? reason : "unknown").c_str(), message);
}

Session::Status Session::Fail(const char* code, const char* message) {
  failed_ = true;
  failure_ = {code, message};
  return Status::kFailed;
}

}  // namespace close_notify
