// TLS over bytes: an SSL of OpenSSL and what goes in and out of it. No N-API, no libuv: this is what is fuzzed.
// See session.cc for how it works.

#ifndef CLOSE_NOTIFY_SESSION_H_
#define CLOSE_NOTIFY_SESSION_H_

#include <openssl/ssl.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace close_notify {

/** Bytes that grow at the end and are taken from the front. */
class Bytes {
 public:
  Bytes() = default;
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  ~Bytes() { Free(); }

  const uint8_t* data() const { return data_ + start_; }
  size_t size() const { return end_ - start_; }
  bool empty() const { return start_ == end_; }
  /** False: out of memory; nothing has changed. */
  bool Append(const uint8_t* data, size_t length);
  void Consume(size_t length);
  void Clear() { start_ = end_ = 0; }
  void Swap(Bytes& other);
  /** Gives its memory back as well. */
  void Free();

 private:
  uint8_t* data_ = nullptr;
  size_t start_ = 0;
  size_t end_ = 0;
  size_t capacity_ = 0;
};

/** What OpenSSL said last, for an error that is told. */
struct Failure {
  /** Such as `ERR_SSL_WRONG_VERSION_NUMBER`. */
  std::string code;
  /** In OpenSSL's words: `error:0A00010B:SSL routines::wrong version number`. */
  std::string message;
};

/** Where the bytes end that were received. */
enum class Cut : uint8_t { kBoundary, kInside };

class Session {
 public:
  /**
   * What crosses the wire, told within calls of OpenSSL: who is told may neither use this SSL, but to read from it, nor
   * call JavaScript.
   */
  class Events {
   public:
    virtual void OnAlert(bool sent, uint8_t level, uint8_t description, bool authenticated) = 0;
    virtual void OnRecord(bool sent, uint8_t type, uint16_t length) = 0;
    virtual void OnSecret(const char* line) = 0;
    virtual void OnTicket(SSL_SESSION* session) = 0;
    /** The peer begins a renegotiation (TLS 1.2). */
    virtual void OnRenegotiation() = 0;
    /** Which application protocol: an SSL_TLSEXT_ERR_ value. This alone may call JavaScript. */
    virtual int OnAlpn(const uint8_t** out, uint8_t* out_length, const uint8_t* in,
                       unsigned in_length) = 0;
    /** The server asks for a certificate: its CertificateRequest, without the header. `OnCertificate` comes next. */
    virtual void OnCertificateRequest(const uint8_t* body, size_t length) = 0;
    /** What SSL_set_cert_cb gives: 1 goes on, 0 fails, -1 suspends the handshake. */
    virtual int OnCertificate() = 0;

   protected:
    ~Events() = default;
  };

  enum class Status : uint8_t {
    /** It has to be given more of what the peer sends. */
    kMore,
    /** `Read` has given bytes. */
    kData,
    /** `OnCertificate` has suspended the handshake. */
    kSuspended,
    /** The peer's close_notify came: nothing is read behind it. */
    kClosed,
    /** TLS has failed for good: see `failure`. */
    kFailed,
  };

  Session() = default;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();

  /** Once a process. False: OpenSSL refused. */
  static bool Install();
  /** Callbacks that belong on a context. They find the Session of their SSL. */
  static void Prepare(SSL_CTX* context);

  /** @param output where records go to. False: OpenSSL refused, or memory was short. */
  bool Init(SSL_CTX* context, bool server, Events* events, Bytes* output);
  SSL* ssl() const { return ssl_; }
  bool established() const { return established_; }
  /** Why it failed. Empty strings until then. */
  const Failure& failure() const { return failure_; }

  /** What the peer has sent. The memory has to last until `Rest` was asked. */
  void SetInput(const uint8_t* data, size_t length);
  /** What of the input no record was made of. */
  size_t rest() const { return in_length_; }
  const uint8_t* rest_data() const { return in_; }
  /** Where records go to from now on. */
  void SetOutput(Bytes* output) { output_ = output; }
  void DropOutput() { output_->Clear(); }

  /** The handshake, as far as the input goes: kMore with `established()` where it is complete. */
  Status Handshake();
  /** Decrypts: one record at most. `room` should hold one: 16,384 bytes. */
  Status Read(uint8_t* out, size_t room, size_t* length);
  /** Encrypts. `written` may be less than `length` where a handshake is going on: kMore, or kSuspended. */
  Status Write(const uint8_t* data, size_t length, size_t* written);
  /** Sends close_notify, once. kMore: a renegotiation is in the way. kClosed: it is in the output. */
  Status SendCloseNotify();
  /** Puts a KeyUpdate into the output (TLS 1.3). kMore: a handshake is going on. kData: it is there. */
  Status UpdateKeys(bool request);
  /** Gives back what OpenSSL keeps for the next record. */
  void FreeBuffers();
  /** Where the bytes end that OpenSSL has taken. */
  Cut cut() const { return taken_ == shown_ ? Cut::kBoundary : Cut::kInside; }

 private:
  static int BioRead(BIO* bio, char* out, int length);
  static int BioWrite(BIO* bio, const char* data, int length);
  static long BioControl(BIO* bio, int command, long number, void* pointer);
  static int BioCreate(BIO* bio);
  static Session* Of(const SSL* ssl);
  static void OnMessage(int sent, int version, int type, const void* bytes, size_t length, SSL* ssl,
                        void*);
  static void OnInfo(const SSL* ssl, int where, int value);

  void Saw(bool sent, int version, int type, const uint8_t* bytes, size_t length);
  void SawAlert(bool sent, int version, uint8_t level, uint8_t description);
  Status Outcome(int result);
  Status Fail(const char* code, const char* message);

  SSL* ssl_ = nullptr;
  Events* events_ = nullptr;
  Bytes* output_ = nullptr;
  const uint8_t* in_ = nullptr;
  size_t in_length_ = 0;
  /** Bytes that OpenSSL has taken of the input in all, and those of the records whose header it has shown. */
  uint64_t taken_ = 0;
  uint64_t shown_ = 0;
  Failure failure_;
  bool established_ = false;
  bool own_finished_ = false;
  bool peer_finished_ = false;
  /** The peer's authenticated close_notify was shown. */
  bool closed_ = false;
  /** A fatal alert of the peer's was shown. */
  bool doomed_ = false;
  bool close_sent_ = false;
  /** SSL_shutdown is being called. */
  bool closing_ = false;
  bool failed_ = false;
  bool out_of_memory_ = false;
};

}  // namespace close_notify

#endif
