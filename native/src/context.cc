// How the engine comes to a context.
//
// Theory of operation. Node makes a SecureContext of the options that a program gives, and hands out no SSL_CTX. But
// OpenSSL calls a hook of ours for each SSL_CTX that is made (CRYPTO_get_ex_new_index). So JavaScript opens a bracket,
// calls `tls.createSecureContext()` within it, and the one SSL_CTX that was made meanwhile on this thread is the one.
// The context of a certificate that a program has made itself (for SNI, say) is found in the same way: Node is asked
// to make a TLSSocket with it, and the SSL that it makes has that context. Two in one bracket are none: it does not
// guess.
//
// The hook runs while the SSL_CTX is half made. So only its address is kept, and the reference is taken when the
// bracket is closed.

#include "context.h"

#include <openssl/crypto.h>

namespace close_notify {
namespace {

thread_local Capture* current = nullptr;

}  // namespace

Capture::Capture() : outer_(current) { current = this; }

Capture::~Capture() { current = outer_; }

bool Capture::Install() {
  static const bool installed = [] {
    return CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL_CTX, 0, nullptr, OnNewContext, nullptr,
                                   OnFreeContext) >= 0 &&
           CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL, 0, nullptr, OnNewSsl, nullptr, OnFreeSsl) >=
               0;
  }();
  return installed;
}

SSL_CTX* Capture::TakeContext() {
  if (context_.count != 1 || context_.object == nullptr) return nullptr;
  SSL_CTX* context = static_cast<SSL_CTX*>(context_.object);
  return SSL_CTX_up_ref(context) == 1 ? context : nullptr;
}

SSL_CTX* Capture::TakeContextOfSsl() {
  if (ssl_.count != 1 || ssl_.object == nullptr) return nullptr;
  SSL_CTX* context = SSL_get_SSL_CTX(static_cast<SSL*>(ssl_.object));
  return context != nullptr && SSL_CTX_up_ref(context) == 1 ? context : nullptr;
}

void Capture::One::Made(void* parent) {
  object = parent;
  count++;
}

void Capture::One::Freed(void* parent) {
  if (object == parent) object = nullptr;
}

void Capture::OnNewContext(void* parent, void*, CRYPTO_EX_DATA*, int, long, void*) {
  if (current != nullptr) current->context_.Made(parent);
}

void Capture::OnFreeContext(void* parent, void*, CRYPTO_EX_DATA*, int, long, void*) {
  if (current != nullptr) current->context_.Freed(parent);
}

void Capture::OnNewSsl(void* parent, void*, CRYPTO_EX_DATA*, int, long, void*) {
  if (current != nullptr) current->ssl_.Made(parent);
}

void Capture::OnFreeSsl(void* parent, void*, CRYPTO_EX_DATA*, int, long, void*) {
  if (current != nullptr) current->ssl_.Freed(parent);
}

}  // namespace close_notify
