// What an SSL knows of its peer, and what it presents to it. No N-API here.

#ifndef CLOSE_NOTIFY_PEER_H_
#define CLOSE_NOTIFY_PEER_H_

#include <openssl/ssl.h>

#include <string>
#include <vector>

namespace close_notify {

/** Whether the peer's certificate verified, as Node judges it. */
struct Judgement {
  /** Such as `CERT_HAS_EXPIRED`; null where it verified. */
  const char* code;
  /** OpenSSL's words for it. */
  const char* reason;
};
Judgement JudgementOf(SSL* ssl);

bool HasCertificate(SSL* ssl);

/** The peer's certificate, in DER; empty without one. */
std::string CertificateOf(SSL* ssl);

/** It and those of its issuers, in DER, up to the one that this side trusts, as far as they are known. */
std::vector<std::string> ChainOf(SSL* ssl);

/** The session, in DER; empty without one. */
std::string SessionOf(SSL* ssl);

/** Bits of the ephemeral key of a DHE handshake; 0 where it is another. */
int DhBits(SSL* ssl);

/**
 * Has an SSL present what a context would: its certificates, their keys and chains; as a server also judge the client by
 * the authorities of that context. False: OpenSSL refuses. Memory of the context is not shared, and nothing of it is
 * called later.
 */
bool UseIdentity(SSL* ssl, SSL_CTX* context, bool server);

}  // namespace close_notify

#endif
