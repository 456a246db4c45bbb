// The witness: which alerts crossed the wire of the TLS connections that Node makes.
//
// Theory of operation
// ===================
//
// Node exports the OpenSSL that it uses. OpenSSL calls a "message callback" with every handshake
// message, every alert and every record header that an SSL reads or writes, in the clear. That
// callback is the one thing in OpenSSL that says *which* alert came: SSL_get_shutdown and
// SSL_ERROR_ZERO_RETURN are set by fatal alerts too. So the witness sets that callback on each SSL
// and writes down what it is shown. Nothing is put between the socket and the kernel, nothing of V8
// is used, and no member of Node's that is not documented.
//
// How the callback comes onto an SSL
// ----------------------------------
// Node hands out no SSL. But OpenSSL has a hook for whoever wants to keep data with its objects:
// CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL, ..., new_func, dup_func, free_func). new_func runs
// within SSL_new, for every SSL, whatever its SSL_CTX and whenever that was made: contexts older
// than this add-on, SNI's contexts, the second connection of Happy Eyeballs, servers that listen
// already.
// - In OpenSSL 3.0 and 3.1 the hook is the last step of SSL_new: the SSL is whole, and the callback
//   is set on it at once.
// - In OpenSSL 3.2 and later the hook is the first step: SSL_get_SSL_CTX is still null, and the
//   callback is copied from the SSL_CTX behind it. What is set now would be lost. So the SSL is kept
//   as `half_made_`, and a second hook, for CRYPTO_EX_INDEX_BIO, finishes the work: Node's TLSWrap
//   makes the SSL first and its two BIOs next, and SSL_new itself makes none. Should a later Node
//   turn that round, then `Since` (called behind the making of a socket) still sets the callback,
//   and a connection that escaped is told by its place (below) and by not being found.
//
// How a connection is joined to its socket
// ----------------------------------------
// `tlsSocket.getFinished()` gives the Finished message that this side sent last. The callback is
// shown the same bytes, and they are a MAC over the whole handshake with its two random numbers:
// no two connections have the same. They are the key of the look-up table. A renegotiation (TLS 1.2)
// changes the Finished message, and the key with it, until the watch was found. Were two watches ever
// to have the same key then none is returned: the witness does not guess.
//
// What is authenticated
// ---------------------
// An alert counts as authenticated from the moment on that the first Finished message of its sender
// was shown. A Finished message with a wrong MAC is shown too, but then OpenSSL's handshake has
// failed for good and reads nothing more.
//
// Where the bytes end
// -------------------
// Every record header that is read is shown, 5 bytes with the length of the body (RFC 9846, section
// 5.1). Their sum, bodies included, says how many bytes the SSL needs; BIO_number_read says how many
// it took. OpenSSL reads no byte ahead, so: equal, the bytes end between two records; fewer taken,
// within the last body; up to 4 more, within a header. Any other difference shows that records were
// read which were not shown: `enableTrace()` displaces the callback silently. Then nothing is claimed.
// The read BIO's own free hook keeps the last answer: it runs with the BIO still whole, both in 3.0
// (where SSL_free runs our hook before it frees the BIOs) and in 3.5 (where it is the other way
// round). No hook of ours looks from a dying SSL at its BIOs.
//
// What OpenSSL ignores
// --------------------
// In TLS 1.3, OpenSSL 3.5 takes no notice of a close_notify behind a warning (user_canceled, or any in
// the clear, before the version was known, which anybody may have sent): SSL_read gives 0, but SSL_get_error does not give SSL_ERROR_ZERO_RETURN, so Node goes on to wait. 3.0 does
// so only where the close_notify has the level 'fatal'. The callback is shown both alerts. It runs
// within SSL_read, where the outcome is not known yet: so the connection is put into a queue, and
// `ClosureIgnored` asks on a later turn.
//
// Threads and lifetime
// --------------------
// A Witness is of one thread, and reached by the thread-local `current`. Where that is null (no
// `watch()` there, an environment that ended, another copy of this add-on) the hooks do nothing.
// Node uses an SSL on one thread only. But SSL_free on another thread is legal, so what a free hook
// touches (the links of the lists, Watch::ssl_, rbio_, last_place_) is guarded by one mutex, `lock`.
// That keeps the lists whole, and no more: 3.5 frees the BIOs of an SSL before it calls our hook, so on
// the thread of the Witness `Pending` and `WhereRead` may not be asked while another frees that very SSL.
// The callback takes the mutex only for Finished messages. Nobody calls into JavaScript while holding it: a
// collection of garbage there may free an SSL.
// OpenSSL's hooks cannot be removed safely while SSLs live: the library is linked with `-z nodelete`
// and stays until the process ends.
// Nothing here leaves an error in OpenSSL's queue: what could put one there is between ERR_set_mark
// and ERR_pop_to_mark.

#include "witness.h"

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <uv.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <new>

namespace close_notify {
namespace {

constexpr uint8_t kFinished = 20;      // HandshakeType, RFC 9846, section 4
constexpr size_t kHandshakeHeader = 4;  // type, and three bytes of length
constexpr size_t kRecordHeader = 5;     // type, version, and two bytes of length
constexpr uint8_t kFatal = 2;
constexpr uint8_t kCloseNotify = 0;
constexpr uint8_t kUserCanceled = 90;

std::mutex lock;
std::atomic<int> live_ssl{0};
std::atomic<int> live_watches{0};
int ssl_index = -1;
int bio_index = -1;
thread_local Witness* current = nullptr;

/** Takes back the errors that were put into OpenSSL's queue while it lived. */
class ErrorQueueGuard {
 public:
  ErrorQueueGuard() { marked_ = ERR_set_mark() == 1; }
  ~ErrorQueueGuard() {
    // Without an error in the queue there is nothing to mark: then all that is there is ours.
    if (marked_) {
      ERR_pop_to_mark();
    } else {
      ERR_clear_error();
    }
  }
  ErrorQueueGuard(const ErrorQueueGuard&) = delete;
  ErrorQueueGuard& operator=(const ErrorQueueGuard&) = delete;

 private:
  bool marked_;
};

/** The clock of process.hrtime() and performance.now(), in milliseconds. */
double Now() { return static_cast<double>(uv_hrtime()) / 1e6; }

}  // namespace

// Watch ------------------------------------------------------------------------------------------

Watch::Watch() : born_(Now()) { live_watches.fetch_add(1, std::memory_order_relaxed); }

Watch::~Watch() { live_watches.fetch_sub(1, std::memory_order_relaxed); }

void Watch::Release() {
  if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
}

bool Watch::Pending(size_t* bytes) const {
  std::lock_guard<std::mutex> guard(lock);
  if (ssl_ == nullptr) return false;
  BIO* wbio = SSL_get_wbio(ssl_);
  if (wbio == nullptr) return false;
  *bytes = BIO_ctrl_pending(wbio);
  return true;
}

Place Watch::WhereRead() const {
  std::lock_guard<std::mutex> guard(lock);
  if (rbio_ != nullptr) {
    // Another BIO has taken its place: each counted only a part.
    if (ssl_ != nullptr && SSL_get_rbio(ssl_) != rbio_) return Place::kUnknown;
    return PlaceOf(BIO_number_read(rbio_));
  }
  if (ssl_ == nullptr) return last_place_;
  if (shown_ != 0) return Place::kUnknown;
  BIO* rbio = SSL_get_rbio(ssl_);
  return rbio == nullptr ? Place::kUnknown : PlaceOf(BIO_number_read(rbio));
}

Place Watch::PlaceOf(uint64_t read) const {
  if (gap_) return Place::kUnknown;
  if (read == shown_) return Place::kBoundary;
  if (read < shown_) return shown_ - read <= last_body_ ? Place::kBody : Place::kUnknown;
  return read - shown_ < kRecordHeader ? Place::kHeader : Place::kUnknown;
}

bool Watch::ClosureIgnored() const {
  std::lock_guard<std::mutex> guard(lock);
  if (ssl_ == nullptr || (SSL_get_shutdown(ssl_) & SSL_RECEIVED_SHUTDOWN) == 0) return false;
  // SSL_get_error speaks of the SSL only where the queue is empty. What others have left there on an
  // earlier turn nobody looks for any more.
  ERR_clear_error();
  return SSL_get_error(ssl_, 0) != SSL_ERROR_ZERO_RETURN;
}

void Watch::Retake(BIO* trace) {
  // What was read and not shown in the meantime stays unexplained for good.
  if (WhereRead() == Place::kUnknown) gap_ = true;
  std::lock_guard<std::mutex> guard(lock);
  trace_ = trace;
  if (ssl_ != nullptr) SSL_set_msg_callback(ssl_, Witness::OnMessage);
}

void Watch::OnRecordHeader(const uint8_t* header) {
  last_body_ = static_cast<uint32_t>(header[3]) << 8 | header[4];
  shown_ += kRecordHeader + last_body_;
  if (rbio_ != nullptr) return;
  BIO* rbio = SSL_get_rbio(ssl_);
  if (rbio == nullptr || BIO_get_ex_data(rbio, bio_index) != nullptr) return;
  ErrorQueueGuard errors;
  if (BIO_set_ex_data(rbio, bio_index, this) != 1) return;
  Retain();
  std::lock_guard<std::mutex> guard(lock);
  rbio_ = rbio;
}

void Watch::OnRecordSent(const uint8_t* header) {
  last_sent_ = kRecordHeader + (static_cast<size_t>(header[3]) << 8 | header[4]);
}

void Watch::OnFinished(bool sent, const uint8_t* verify_data, size_t length) {
  if (!sent) {
    peer_finished_ = true;
    return;
  }
  own_finished_ = true;
  if (found_ || length < sizeof(uint32_t) || length > kMostFinished) return;
  std::lock_guard<std::mutex> guard(lock);
  Witness* witness = witness_;
  witness->TakeOut(this);
  memcpy(finished_, verify_data, length);
  finished_length_ = static_cast<uint8_t>(length);
  witness->Insert(this);
}

void Watch::OnAlert(bool sent, int version, uint8_t level, uint8_t description) {
  const bool authenticated = sent ? own_finished_ : peer_finished_;
  const bool tls13 = version == TLS1_3_VERSION;
  // TLS 1.3 knows no warnings: its level is not looked at (RFC 9846, section 6). In the clear the version may not be
  // known yet, and OpenSSL looks at it.
  const bool ends = description == kCloseNotify || (tls13 && authenticated
                                                        ? description != kUserCanceled
                                                        : level == kFatal);
  bool& ended = sent ? sent_end_ : received_end_;
  if (alert_count_ < kFirstAlerts || (ends && !ended)) {
    // Node gives what OpenSSL made to the transport right behind the call that made it. What was made before and
    // is still in the BIO is being written, and this has to wait for the end of that.
    BIO* wbio = sent ? SSL_get_wbio(ssl_) : nullptr;
    const bool alone = wbio != nullptr && BIO_ctrl_pending(wbio) <= last_sent_;
    alerts_[alert_count_++] = {sent, level, description, authenticated, alone, Now()};
  }
  if (ends) ended = true;
  if (sent) return;
  if (!ends) warned_ = true;
  if (description == kCloseNotify && tls13 && authenticated && warned_ && !ignored_) {
    ignored_ = true;
    witness_.load()->Ignored(this);
  }
}

// Witness: OpenSSL's hooks -----------------------------------------------------------------------

bool Witness::Install() {
  static const bool installed = [] {
    ErrorQueueGuard errors;
    bio_index = CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_BIO, 0, nullptr, OnNewBio, OnDupBio,
                                        OnFreeBio);
    if (bio_index < 0) return false;
    ssl_index = CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL, 0, nullptr, OnNewSsl, OnDupSsl,
                                        OnFreeSsl);
    return ssl_index >= 0;
  }();
  return installed;
}

void Witness::OnNewSsl(void* parent, void*, CRYPTO_EX_DATA* data, int index, long, void*) {
  Witness* witness = current;
  if (witness == nullptr) return;
  ErrorQueueGuard errors;
  Watch* watch = new (std::nothrow) Watch();
  if (watch == nullptr) return;
  watch->Retain();
  if (CRYPTO_set_ex_data(data, index, watch) != 1) {
    watch->Release();
    return;
  }
  live_ssl.fetch_add(1, std::memory_order_relaxed);
  std::lock_guard<std::mutex> guard(lock);
  watch->ssl_ = static_cast<SSL*>(parent);
  witness->Append(watch);
  witness->half_made_ = watch;
  witness->SetCallbackOfHalfMade();
}

void Witness::OnNewBio(void*, void*, CRYPTO_EX_DATA*, int, long, void*) {
  Witness* witness = current;
  if (witness == nullptr || witness->half_made_ == nullptr) return;
  std::lock_guard<std::mutex> guard(lock);
  witness->SetCallbackOfHalfMade();
}

void Witness::SetCallbackOfHalfMade() {
  Watch* watch = half_made_;
  if (watch == nullptr || SSL_get_SSL_CTX(watch->ssl_) == nullptr) return;
  SSL_set_msg_callback(watch->ssl_, OnMessage);
  half_made_ = nullptr;
}

void Witness::OnFreeSsl(void*, void* pointer, CRYPTO_EX_DATA*, int, long, void*) {
  Watch* watch = static_cast<Watch*>(pointer);
  if (watch == nullptr) return;
  {
    std::lock_guard<std::mutex> guard(lock);
    if (watch->witness_ != nullptr) watch->witness_.load()->Remove(watch);
    watch->ssl_ = nullptr;
  }
  live_ssl.fetch_sub(1, std::memory_order_relaxed);
  watch->Release();
}

// OpenSSL copies the pointer where there is no dup_func. SSL_dup has made an SSL of its own, with a
// watch of its own: that stays.
int Witness::OnDupSsl(CRYPTO_EX_DATA* to, const CRYPTO_EX_DATA*, void** from, int index, long,
                      void*) {
  *from = CRYPTO_get_ex_data(to, index);
  return 1;
}

int Witness::OnDupBio(CRYPTO_EX_DATA*, const CRYPTO_EX_DATA*, void** from, int, long, void*) {
  *from = nullptr;
  return 1;
}

void Witness::OnFreeBio(void* parent, void* pointer, CRYPTO_EX_DATA*, int, long, void*) {
  Watch* watch = static_cast<Watch*>(pointer);
  if (watch == nullptr) return;
  {
    std::lock_guard<std::mutex> guard(lock);
    watch->last_place_ = watch->PlaceOf(BIO_number_read(static_cast<BIO*>(parent)));
    watch->rbio_ = nullptr;
  }
  watch->Release();
}

void Witness::OnMessage(int sent, int version, int type, const void* bytes, size_t length, SSL* ssl,
                        void*) {
  Witness* witness = current;
  if (witness == nullptr) return;
  Watch* watch = static_cast<Watch*>(SSL_get_ex_data(ssl, ssl_index));
  if (watch == nullptr || watch->witness_ != witness) return;
  const uint8_t* data = static_cast<const uint8_t*>(bytes);
  if (type == SSL3_RT_HEADER && sent) {
    if (length == kRecordHeader) watch->OnRecordSent(data);
  } else if (type == SSL3_RT_HEADER) {
    if (length == kRecordHeader) watch->OnRecordHeader(data);
  } else if (type == SSL3_RT_ALERT) {
    if (length == 2) watch->OnAlert(sent != 0, version, data[0], data[1]);
  } else if (type == SSL3_RT_HANDSHAKE) {
    if (length > kHandshakeHeader && data[0] == kFinished) {
      watch->OnFinished(sent != 0, data + kHandshakeHeader, length - kHandshakeHeader);
    }
  }
  if (watch->trace_ != nullptr) {
    ErrorQueueGuard errors;
    SSL_trace(sent, version, type, bytes, length, ssl, watch->trace_);
  }
}

// Witness: its lists -----------------------------------------------------------------------------

int Witness::LiveSsl() { return live_ssl; }

int Witness::LiveWatches() { return live_watches; }

Witness::Pause::Pause() : witness_(current) { current = nullptr; }

Witness::Pause::~Pause() { current = witness_; }

bool Witness::running() const { return current == this; }

bool Witness::Start(void (*on_ignored)(void*), void* argument) {
  if (current != nullptr) return current == this;
  on_ignored_ = on_ignored;
  argument_ = argument;
  current = this;
  return true;
}

void Witness::Stop() {
  if (current == this) current = nullptr;
  {
    std::lock_guard<std::mutex> guard(lock);
    while (first_ != nullptr) Remove(first_);
  }
  while (Watch* watch = TakeIgnored()) watch->Release();
}

Watch* Witness::Find(const uint8_t* finished, size_t length) {
  if (length < sizeof(uint32_t) || length > Watch::kMostFinished) return nullptr;
  std::lock_guard<std::mutex> guard(lock);
  Watch* match = nullptr;
  for (Watch* watch = *Bucket(finished); watch != nullptr; watch = watch->chain_) {
    if (watch->finished_length_ != length || memcmp(watch->finished_, finished, length) != 0) {
      continue;
    }
    if (match != nullptr) return nullptr;
    match = watch;
  }
  if (match == nullptr) return nullptr;
  TakeOut(match);
  match->found_ = true;
  match->Retain();
  return match;
}

std::vector<Watch*> Witness::Since(uint64_t mark) {
  std::vector<Watch*> watches;
  std::lock_guard<std::mutex> guard(lock);
  SetCallbackOfHalfMade();
  for (Watch* watch = last_; watch != nullptr && watch->serial_ > mark; watch = watch->previous_) {
    watch->Retain();
    watches.push_back(watch);
  }
  std::reverse(watches.begin(), watches.end());
  return watches;
}

Watch* Witness::TakeIgnored() {
  Watch* watch = ignored_first_;
  if (watch == nullptr) return nullptr;
  ignored_first_ = watch->queued_;
  if (ignored_first_ == nullptr) ignored_last_ = nullptr;
  watch->queued_ = nullptr;
  return watch;
}

void Witness::Ignored(Watch* watch) {
  watch->Retain();
  const bool was_empty = ignored_first_ == nullptr;
  if (was_empty) {
    ignored_first_ = watch;
  } else {
    ignored_last_->queued_ = watch;
  }
  ignored_last_ = watch;
  if (was_empty) on_ignored_(argument_);
}

void Witness::Append(Watch* watch) {
  watch->witness_ = this;
  watch->serial_ = ++serial_;
  watch->previous_ = last_;
  if (last_ != nullptr) {
    last_->next_ = watch;
  } else {
    first_ = watch;
  }
  last_ = watch;
}

void Witness::Remove(Watch* watch) {
  TakeOut(watch);
  if (half_made_ == watch) half_made_ = nullptr;
  (watch->previous_ != nullptr ? watch->previous_->next_ : first_) = watch->next_;
  (watch->next_ != nullptr ? watch->next_->previous_ : last_) = watch->previous_;
  watch->previous_ = watch->next_ = nullptr;
  watch->witness_ = nullptr;
}

Watch** Witness::Bucket(const uint8_t* finished) {
  uint32_t first;
  memcpy(&first, finished, sizeof first);
  return &table_[first % kBuckets];
}

void Witness::Insert(Watch* watch) {
  Watch** bucket = Bucket(watch->finished_);
  watch->chain_ = *bucket;
  watch->in_table_ = true;
  *bucket = watch;
}

void Witness::TakeOut(Watch* watch) {
  if (!watch->in_table_) return;
  Watch** link = Bucket(watch->finished_);
  while (*link != watch) link = &(*link)->chain_;
  *link = watch->chain_;
  watch->chain_ = nullptr;
  watch->in_table_ = false;
}

}  // namespace close_notify
