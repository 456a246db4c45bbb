// What the add-on knows of OpenSSL's connections: see witness.cc for how it comes to know it.
// No N-API here.

#ifndef CLOSE_NOTIFY_WITNESS_H_
#define CLOSE_NOTIFY_WITNESS_H_

#include <openssl/ssl.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace close_notify {

class Witness;

/** One alert that crossed the wire, as OpenSSL showed it (RFC 9846, section 6; RFC 5246, section 7.2). */
struct Alert {
  bool sent;
  uint8_t level;
  uint8_t description;
  /** The Finished message of its sender had been seen before it. */
  bool authenticated;
  /** It was sent, and nothing else was in the write BIO when it was made. */
  bool alone;
  /** CLOCK_MONOTONIC, milliseconds. */
  double at;
};

/** Where the bytes that OpenSSL has read end. */
enum class Place : uint8_t { kNone, kUnknown, kBoundary, kHeader, kBody };

/**
 * One connection. It is owned by whoever counts among `references_`: the SSL, the SSL's read BIO,
 * the JavaScript object, the queue of ignored closures. So it outlives each of them alone.
 */
class Watch {
 public:
  static constexpr int kFirstAlerts = 16;
  static constexpr int kMostAlerts = kFirstAlerts + 2;
  /** A Finished message is a hash or a MAC: EVP_MAX_MD_SIZE. */
  static constexpr size_t kMostFinished = 64;

  void Retain() { references_.fetch_add(1, std::memory_order_relaxed); }
  void Release();

  /** When the SSL was made: CLOCK_MONOTONIC, milliseconds. */
  double born() const { return born_; }
  int alert_count() const { return alert_count_; }
  const Alert& alert(int index) const { return alerts_[index]; }
  /** Bytes that the write BIO holds. False: the SSL is gone. */
  bool Pending(size_t* bytes) const;
  /** kNone: the SSL is gone, and had read no record. */
  Place WhereRead() const;
  /** The peer's close_notify came, and SSL_get_error does not say so. */
  bool ClosureIgnored() const;
  /** Puts the message callback on the SSL again. */
  void Retake(BIO* trace);

  /** The JavaScript object's side, for addon.cc alone. */
  void* handle = nullptr;

 private:
  friend class Witness;
  Watch();
  ~Watch();

  void OnRecordHeader(const uint8_t* header);
  void OnRecordSent(const uint8_t* header);
  void OnFinished(bool sent, const uint8_t* verify_data, size_t length);
  void OnAlert(bool sent, int version, uint8_t level, uint8_t description);
  Place PlaceOf(uint64_t read) const;

  std::atomic<int> references_{0};
  std::atomic<Witness*> witness_{nullptr};
  SSL* ssl_ = nullptr;
  /** The read BIO, from the first record on until it is freed. */
  BIO* rbio_ = nullptr;
  BIO* trace_ = nullptr;

  /** The list of the SSLs that live, in the order in which they were made. */
  uint64_t serial_ = 0;
  Watch* previous_ = nullptr;
  Watch* next_ = nullptr;
  /** The look-up table's chain. */
  Watch* chain_ = nullptr;
  bool in_table_ = false;
  bool found_ = false;
  /** The queue of ignored closures. */
  Watch* queued_ = nullptr;

  double born_;
  uint64_t shown_ = 0;
  uint32_t last_body_ = 0;
  /** The last record that was written, with its header. */
  size_t last_sent_ = 0;
  /** Records were read that the callback was not shown. */
  bool gap_ = false;
  Place last_place_ = Place::kNone;

  bool own_finished_ = false;
  bool peer_finished_ = false;
  bool warned_ = false;
  bool ignored_ = false;
  bool sent_end_ = false;
  bool received_end_ = false;
  uint8_t alert_count_ = 0;
  uint8_t finished_length_ = 0;
  uint8_t finished_[kMostFinished];
  Alert alerts_[kMostAlerts];
};

/** All connections that were made on one thread since `Start`. Every method is of that thread. */
class Witness {
 public:
  Witness() = default;
  Witness(const Witness&) = delete;
  Witness& operator=(const Witness&) = delete;
  ~Witness() { Stop(); }

  /** Once a process, before any `Start`: hooks into OpenSSL. False: OpenSSL refused. */
  static bool Install();
  /** Objects that live, of all threads. */
  static int LiveSsl();
  static int LiveWatches();

  /**
   * `on_ignored` is called within an SSL call, when the queue was empty and is not now; it may not
   * call OpenSSL. False: another Witness has this thread.
   */
  bool Start(void (*on_ignored)(void*), void* argument);
  /** Lets go of all connections: they are watched no more. */
  void Stop();
  bool running() const;

  /**
   * The watch whose connection sent this Finished message last, no longer to be found; or null. The
   * caller owns a reference.
   */
  Watch* Find(const uint8_t* finished, size_t length);
  uint64_t Mark() const { return serial_; }
  /** The watches of all SSLs made behind the mark that live. The caller owns a reference to each. */
  std::vector<Watch*> Since(uint64_t mark);
  /**
   * The next whose close_notify came behind a warning. The caller owns a reference. Null: no
   * more.
   */
  Watch* TakeIgnored();

  /** While one lives, nothing that is made on its thread is watched. */
  class Pause {
   public:
    Pause();
    ~Pause();
    Pause(const Pause&) = delete;
    Pause& operator=(const Pause&) = delete;

   private:
    Witness* const witness_;
  };

  /** The message callback. Public for its test alone. */
  static void OnMessage(int sent, int version, int type, const void* bytes, size_t length, SSL* ssl,
                        void*);

 private:
  friend class Watch;
  static constexpr size_t kBuckets = 1024;

  static void OnNewSsl(void* parent, void*, CRYPTO_EX_DATA* data, int index, long, void*);
  static int OnDupSsl(CRYPTO_EX_DATA* to, const CRYPTO_EX_DATA*, void** from, int index, long,
                      void*);
  static void OnFreeSsl(void*, void* watch, CRYPTO_EX_DATA*, int, long, void*);
  static void OnNewBio(void*, void*, CRYPTO_EX_DATA*, int, long, void*);
  static int OnDupBio(CRYPTO_EX_DATA*, const CRYPTO_EX_DATA*, void** from, int, long, void*);
  static void OnFreeBio(void* parent, void* watch, CRYPTO_EX_DATA*, int, long, void*);

  void SetCallbackOfHalfMade();
  void Append(Watch* watch);
  void Remove(Watch* watch);
  void Insert(Watch* watch);
  void TakeOut(Watch* watch);
  void Ignored(Watch* watch);
  Watch** Bucket(const uint8_t* finished);

  uint64_t serial_ = 0;
  Watch* first_ = nullptr;
  Watch* last_ = nullptr;
  std::atomic<Watch*> half_made_{nullptr};
  Watch* ignored_first_ = nullptr;
  Watch* ignored_last_ = nullptr;
  void (*on_ignored_)(void*) = nullptr;
  void* argument_ = nullptr;
  Watch* table_[kBuckets] = {};
};

}  // namespace close_notify

#endif
