// The SSL_CTX of a SecureContext that Node has made. See context.cc.

#ifndef CLOSE_NOTIFY_CONTEXT_H_
#define CLOSE_NOTIFY_CONTEXT_H_

#include <openssl/ssl.h>

#include <cstddef>

namespace close_notify {

/** While it lives, it notes each SSL_CTX and each SSL that is made on its thread. */
class Capture {
 public:
  Capture();
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;
  ~Capture();

  /** Once a process. False: OpenSSL refused. */
  static bool Install();
  /** The one SSL_CTX that was made, with a reference that the caller owns; null where there was none, or several. */
  SSL_CTX* TakeContext();
  /** The SSL_CTX of the one SSL that was made, likewise. Only while that SSL lives. */
  SSL_CTX* TakeContextOfSsl();

 private:
  static void OnNewContext(void* parent, void*, CRYPTO_EX_DATA*, int, long, void*);
  static void OnFreeContext(void* parent, void*, CRYPTO_EX_DATA*, int, long, void*);
  static void OnNewSsl(void* parent, void*, CRYPTO_EX_DATA*, int, long, void*);
  static void OnFreeSsl(void* parent, void*, CRYPTO_EX_DATA*, int, long, void*);

  struct One {
    void* object = nullptr;
    int count = 0;
    void Made(void* parent);
    void Freed(void* parent);
  };
  One context_;
  One ssl_;
  Capture* const outer_;
};

}  // namespace close_notify

#endif
