#include "peer.h"

#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>

#include "error_queue.h"

namespace close_notify {
namespace {

/** X509_V_ERR_ names that Node uses as codes; for any other it says UNSPECIFIED. */
struct Name {
  int error;
  const char* name;
};

#define NAME(name) {X509_V_ERR_##name, #name}
constexpr Name kNames[] = {
    NAME(UNABLE_TO_GET_ISSUER_CERT),
    NAME(UNABLE_TO_GET_CRL),
    NAME(UNABLE_TO_DECRYPT_CERT_SIGNATURE),
    NAME(UNABLE_TO_DECRYPT_CRL_SIGNATURE),
    NAME(UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY),
    NAME(CERT_SIGNATURE_FAILURE),
    NAME(CRL_SIGNATURE_FAILURE),
    NAME(CERT_NOT_YET_VALID),
    NAME(CERT_HAS_EXPIRED),
    NAME(CRL_NOT_YET_VALID),
    NAME(CRL_HAS_EXPIRED),
    NAME(ERROR_IN_CERT_NOT_BEFORE_FIELD),
    NAME(ERROR_IN_CERT_NOT_AFTER_FIELD),
    NAME(ERROR_IN_CRL_LAST_UPDATE_FIELD),
    NAME(ERROR_IN_CRL_NEXT_UPDATE_FIELD),
    NAME(OUT_OF_MEM),
    NAME(DEPTH_ZERO_SELF_SIGNED_CERT),
    NAME(SELF_SIGNED_CERT_IN_CHAIN),
    NAME(UNABLE_TO_GET_ISSUER_CERT_LOCALLY),
    NAME(UNABLE_TO_VERIFY_LEAF_SIGNATURE),
    NAME(CERT_CHAIN_TOO_LONG),
    NAME(CERT_REVOKED),
    NAME(INVALID_CA),
    NAME(PATH_LENGTH_EXCEEDED),
    NAME(INVALID_PURPOSE),
    NAME(CERT_UNTRUSTED),
    NAME(CERT_REJECTED),
    NAME(HOSTNAME_MISMATCH),
};
#undef NAME

struct Free {
  void operator()(X509* certificate) const { X509_free(certificate); }
  void operator()(X509_STORE_CTX* context) const { X509_STORE_CTX_free(context); }
};
using Certificate = std::unique_ptr<X509, Free>;
using StoreContext = std::unique_ptr<X509_STORE_CTX, Free>;

template <typename T>
std::string DerOf(int (*encode)(const T*, unsigned char**), const T* object) {
  unsigned char* der = nullptr;
  const int length = encode(object, &der);
  std::string bytes;
  if (length > 0) bytes.assign(reinterpret_cast<char*>(der), static_cast<size_t>(length));
  OPENSSL_free(der);
  return bytes;
}

bool IsOwnIssuer(X509* certificate) {
  return X509_check_issued(certificate, certificate) == X509_V_OK;
}

}  // namespace

Judgement JudgementOf(SSL* ssl) {
  CleanErrorQueue errors;
  long error = X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT;
  const Certificate certificate(SSL_get1_peer_certificate(ssl));
  if (certificate != nullptr) {
    error = SSL_get_verify_result(ssl);
  } else {
    const SSL_CIPHER* cipher = SSL_get_current_cipher(ssl);
    const SSL_SESSION* session = SSL_get_session(ssl);
    // Where a key that both have stands for the peer there is no certificate.
    const bool psk = (cipher != nullptr && SSL_CIPHER_get_auth_nid(cipher) == NID_auth_psk) ||
                     (session != nullptr && SSL_session_reused(ssl) == 1 &&
                      SSL_SESSION_get_protocol_version(session) == TLS1_3_VERSION);
    if (psk) return {nullptr, nullptr};
  }
  if (error == X509_V_OK) return {nullptr, nullptr};
  const char* code = "UNSPECIFIED";
  for (const Name& one : kNames) {
    if (one.error == error) code = one.name;
  }
  return {code, X509_verify_cert_error_string(error)};
}

bool HasCertificate(SSL* ssl) {
  const Certificate certificate(SSL_get1_peer_certificate(ssl));
  return certificate != nullptr;
}

std::string CertificateOf(SSL* ssl) {
  CleanErrorQueue errors;
  const Certificate certificate(SSL_get1_peer_certificate(ssl));
  return certificate == nullptr ? std::string() : DerOf<X509>(i2d_X509, certificate.get());
}

std::vector<std::string> ChainOf(SSL* ssl) {
  CleanErrorQueue errors;
  std::vector<std::string> chain;
  Certificate last(SSL_get1_peer_certificate(ssl));
  if (last == nullptr) return chain;
  chain.push_back(DerOf<X509>(i2d_X509, last.get()));
  // First those that the peer sent, in whatever order.
  STACK_OF(X509)* sent = SSL_get_peer_cert_chain(ssl);
  std::vector<bool> used(static_cast<size_t>(sent == nullptr ? 0 : sk_X509_num(sent)));
  for (bool found = true; found && !IsOwnIssuer(last.get());) {
    found = false;
    for (size_t index = 0; index < used.size() && !found; index++) {
      X509* one = sk_X509_value(sent, static_cast<int>(index));
      if (used[index] || X509_check_issued(one, last.get()) != X509_V_OK) continue;
      if (X509_up_ref(one) != 1) return chain;
      last.reset(one);
      used[index] = found = true;
      chain.push_back(DerOf<X509>(i2d_X509, one));
    }
  }
  // Then those that this side knows.
  X509_STORE* store = SSL_CTX_get_cert_store(SSL_get_SSL_CTX(ssl));
  const StoreContext context(X509_STORE_CTX_new());
  if (store == nullptr || context == nullptr ||
      X509_STORE_CTX_init(context.get(), store, nullptr, nullptr) != 1) {
    return chain;
  }
  constexpr size_t kMost = 100;
  while (chain.size() < kMost && !IsOwnIssuer(last.get())) {
    X509* issuer = nullptr;
    if (X509_STORE_CTX_get1_issuer(&issuer, context.get(), last.get()) != 1) break;
    last.reset(issuer);
    chain.push_back(DerOf<X509>(i2d_X509, issuer));
  }
  return chain;
}

std::string SessionOf(SSL* ssl) {
  CleanErrorQueue errors;
  const SSL_SESSION* session = SSL_get_session(ssl);
  return session == nullptr ? std::string() : DerOf<SSL_SESSION>(i2d_SSL_SESSION, session);
}

int DhBits(SSL* ssl) {
  CleanErrorQueue errors;
  EVP_PKEY* key = nullptr;
  if (SSL_get_server_tmp_key(ssl, &key) != 1) return 0;
  const int bits = EVP_PKEY_get_base_id(key) == EVP_PKEY_DH ? EVP_PKEY_get_bits(key) : 0;
  EVP_PKEY_free(key);
  return bits;
}

bool UseIdentity(SSL* ssl, SSL_CTX* context, bool server) {
  CleanErrorQueue errors;
  SSL_certs_clear(ssl);
  // Which of its certificates is the current one, is its owner's to say.
  X509* const current = SSL_CTX_get0_certificate(context);
  const auto select_again = [&] {
    if (current != nullptr) (void)SSL_CTX_select_current_cert(context, current);
  };
  // One context may have a certificate for each kind of key.
  for (long more = SSL_CTX_set_current_cert(context, SSL_CERT_SET_FIRST); more == 1;
       more = SSL_CTX_set_current_cert(context, SSL_CERT_SET_NEXT)) {
    X509* certificate = SSL_CTX_get0_certificate(context);
    EVP_PKEY* key = SSL_CTX_get0_privatekey(context);
    if (certificate == nullptr || key == nullptr) continue;
    STACK_OF(X509)* chain = nullptr;
    if (SSL_CTX_get0_chain_certs(context, &chain) != 1 || chain == nullptr ||
        sk_X509_num(chain) == 0) {
      (void)SSL_CTX_get_extra_chain_certs_only(context, &chain);
    }
    if (SSL_use_cert_and_key(ssl, certificate, key, chain, 1) != 1) {
      select_again();
      return false;
    }
  }
  select_again();
  if (!server) return true;
  STACK_OF(X509_NAME)* names = SSL_dup_CA_list(SSL_CTX_get_client_CA_list(context));
  // Without a list of its own it would name the authorities of another context.
  if (names == nullptr) return false;
  SSL_set_client_CA_list(ssl, names);
  return SSL_set1_verify_cert_store(ssl, SSL_CTX_get_cert_store(context)) == 1;
}

}  // namespace close_notify
