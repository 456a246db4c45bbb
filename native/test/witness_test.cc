// What Node never does, and OpenSSL allows: tests of the witness without Node, on the system's OpenSSL.
// They are built with a sanitizer, which sees what an assertion cannot. See scripts/sanitize.js.

#include "../src/witness.h"

#include <openssl/bio.h>
#include <openssl/err.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

using close_notify::Place;
using close_notify::Watch;
using close_notify::Witness;

extern "C" uint64_t uv_hrtime() {
  return static_cast<uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

#define CHECK(condition) \
  do { \
    if (!(condition)) { \
      fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
      abort(); \
    } \
  } while (false)

namespace {

void Nothing(void*) {}

/** A context without certificates. */
SSL_CTX* Context() {
  SSL_CTX* context = SSL_CTX_new(TLS_method());
  CHECK(context != nullptr);
  CHECK(SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION) == 1);
  CHECK(SSL_CTX_set_cipher_list(context, "AECDH-AES128-SHA:@SECLEVEL=0") == 1);
  return context;
}

/** Two SSLs, joined in memory, behind their handshake. */
struct Pair {
  SSL_CTX* context = Context();
  SSL* client = SSL_new(context);
  SSL* server;

  Pair() {
    // In the order in which Node makes them: an SSL, then its BIO.
    BIO* near = BIO_new(BIO_s_bio());
    server = SSL_new(context);
    BIO* far = BIO_new(BIO_s_bio());
    CHECK(client != nullptr && server != nullptr && BIO_make_bio_pair(near, far) == 1);
    SSL_set_bio(client, near, near);
    SSL_set_bio(server, far, far);
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    while (!SSL_is_init_finished(client) || !SSL_is_init_finished(server)) {
      SSL_do_handshake(client);
      SSL_do_handshake(server);
    }
    ERR_clear_error();
  }
  ~Pair() {
    SSL_free(client);
    SSL_free(server);
    SSL_CTX_free(context);
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;

  void CloseByClient() {
    CHECK(SSL_shutdown(client) == 0);
    char byte;
    CHECK(SSL_read(server, &byte, 1) == 0);
    CHECK(SSL_get_error(server, 0) == SSL_ERROR_ZERO_RETURN);
  }
};

Watch* Find(Witness* witness, SSL* ssl) {
  uint8_t finished[64];
  return witness->Find(finished, SSL_get_finished(ssl, finished, sizeof finished));
}

void TellsAndFinds() {
  Witness witness;
  CHECK(witness.Start(Nothing, nullptr));
  CHECK(witness.Start(Nothing, nullptr));
  Pair pair;
  Watch* client = Find(&witness, pair.client);
  Watch* server = Find(&witness, pair.server);
  CHECK(client != nullptr && server != nullptr && client != server);
  CHECK(Find(&witness, pair.client) == nullptr);
  pair.CloseByClient();
  CHECK(client->alert_count() == 1 && client->alert(0).sent && client->alert(0).authenticated);
  CHECK(server->alert_count() == 1 && !server->alert(0).sent && server->alert(0).authenticated);
  CHECK(server->alert(0).level == 1 && server->alert(0).description == 0);
  CHECK(server->WhereRead() == Place::kBoundary);
  client->Release();
  server->Release();
}

/** The first witness of a thread stays. */
void OneForEachThread() {
  Witness first;
  Witness second;
  CHECK(first.Start(Nothing, nullptr));
  CHECK(!second.Start(Nothing, nullptr));
  CHECK(first.running() && !second.running());
}

/** The witness goes before its SSLs. */
void StopsBeforeItsSsl() {
  auto witness = std::make_unique<Witness>();
  CHECK(witness->Start(Nothing, nullptr));
  Pair pair;
  Watch* watch = Find(witness.get(), pair.server);
  CHECK(watch != nullptr);
  witness.reset();
  pair.CloseByClient();
  CHECK(watch->alert_count() == 0);
  // The next witness has nothing to do with those of before.
  Witness next;
  CHECK(next.Start(Nothing, nullptr));
  CHECK(next.Since(0).empty());
  watch->Retake(nullptr);
  CHECK(SSL_shutdown(pair.server) == 1);
  CHECK(watch->alert_count() == 0);
  watch->Release();
}

/** The watch goes last. */
void OutlivesItsSsl() {
  Witness witness;
  CHECK(witness.Start(Nothing, nullptr));
  Watch* watch;
  {
    Pair pair;
    watch = Find(&witness, pair.client);
    size_t bytes = 1;
    CHECK(watch->Pending(&bytes) && bytes == 0);
  }
  size_t bytes;
  CHECK(!watch->Pending(&bytes));
  CHECK(watch->WhereRead() == Place::kBoundary);
  watch->Retake(nullptr);
  CHECK(!watch->ClosureIgnored());
  watch->Release();
}

/** The BIO goes last: another holds it. */
void OutlivedByItsBio() {
  Witness witness;
  CHECK(witness.Start(Nothing, nullptr));
  BIO* bio;
  Watch* watch;
  {
    Pair pair;
    watch = Find(&witness, pair.client);
    bio = SSL_get_rbio(pair.client);
    CHECK(BIO_up_ref(bio) == 1);
  }
  CHECK(watch->WhereRead() == Place::kBoundary);
  watch->Release();
  CHECK(BIO_free(bio) == 1);
}

/** SSL_dup copies all data of an SSL: but each has a watch of its own. */
void Duplicated() {
  Witness witness;
  CHECK(witness.Start(Nothing, nullptr));
  SSL_CTX* context = Context();
  SSL* ssl = SSL_new(context);
  SSL* copy = SSL_dup(ssl);
  CHECK(ssl != nullptr && copy != nullptr);
  CHECK(Witness::LiveSsl() == 2 && Witness::LiveWatches() == 2);
  const std::vector<Watch*> watches = witness.Since(0);
  CHECK(watches.size() == 2 && watches[0] != watches[1]);
  for (Watch* watch : watches) watch->Release();
  SSL_free(ssl);
  SSL_free(copy);
  SSL_CTX_free(context);
}

/** Two of one key: none is returned, until one of them is gone. */
void NeverGuesses() {
  Witness witness;
  CHECK(witness.Start(Nothing, nullptr));
  SSL_CTX* context = Context();
  SSL* ssls[] = {SSL_new(context), SSL_new(context)};
  const uint8_t message[] = {20, 0, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
  for (SSL* ssl : ssls) {
    Witness::OnMessage(1, TLS1_2_VERSION, SSL3_RT_HANDSHAKE, message, sizeof message, ssl, nullptr);
  }
  CHECK(witness.Find(message + 4, 12) == nullptr);
  CHECK(witness.Find(message + 4, 11) == nullptr);
  SSL_free(ssls[0]);
  Watch* watch = witness.Find(message + 4, 12);
  CHECK(watch != nullptr);
  watch->Release();
  SSL_free(ssls[1]);
  SSL_CTX_free(context);
}

/** Messages of any form: short, long, of no known type. */
void OddMessages() {
  Witness witness;
  CHECK(witness.Start(Nothing, nullptr));
  SSL_CTX* context = Context();
  SSL* ssl = SSL_new(context);
  const std::vector<uint8_t> bytes(300, 20);
  for (int type : {0, 20, 21, 22, 23, SSL3_RT_HEADER, SSL3_RT_INNER_CONTENT_TYPE, 4711}) {
    for (size_t length : {0, 1, 2, 3, 4, 5, 6, 8, 68, 69, 300}) {
      for (int sent : {0, 1}) {
        const std::vector<uint8_t> exact(bytes.begin(), bytes.begin() + static_cast<long>(length));
        Witness::OnMessage(sent, TLS1_3_VERSION, type, exact.data(), length, ssl, nullptr);
      }
    }
  }
  const std::vector<Watch*> watches = witness.Since(0);
  CHECK(watches.size() == 1);
  CHECK(watches[0]->WhereRead() == Place::kUnknown);
  watches[0]->Release();
  // The last Finished message that is none too long is the key.
  CHECK(witness.Find(bytes.data(), 65) == nullptr);
  Watch* watch = witness.Find(bytes.data(), 64);
  CHECK(watch == watches[0]);
  watch->Release();
  SSL_free(ssl);
  SSL_CTX_free(context);
}

/** SSLs that are freed on another thread, while this one makes and finds others. */
void FreedElsewhere() {
  Witness witness;
  CHECK(witness.Start(Nothing, nullptr));
  std::vector<std::thread> threads;
  std::vector<Watch*> kept;
  for (int round = 0; round < 50; round++) {
    auto pair = std::make_unique<Pair>();
    kept.push_back(Find(&witness, pair->client));
    CHECK(kept.back() != nullptr);
    threads.emplace_back([held = std::move(pair)]() mutable { held.reset(); });
    for (Watch* watch : kept) {
      // Not Pending: it asks the BIO, and then the program has to see to it that nobody frees it.
      CHECK(watch->WhereRead() == Place::kBoundary);
    }
    for (Watch* watch : witness.Since(0)) watch->Release();
  }
  for (std::thread& thread : threads) thread.join();
  for (Watch* watch : kept) watch->Release();
}

/** What was in the queue of errors stays, and nothing is added. */
void LeavesTheQueueOfErrors() {
  Witness witness;
  CHECK(witness.Start(Nothing, nullptr));
  for (bool dirty : {false, true}) {
    ERR_clear_error();
    SSL_CTX* context = Context();
    if (dirty) ERR_raise(ERR_LIB_USER, 42);
    const unsigned long before = ERR_peek_last_error();
    SSL* ssl = SSL_new(context);
    BIO* bio = BIO_new(BIO_s_mem());
    SSL_set_bio(ssl, bio, bio);
    SSL_free(ssl);
    CHECK(ERR_peek_last_error() == before && ERR_peek_error() == before);
    SSL_CTX_free(context);
  }
  ERR_clear_error();
}

}  // namespace

int main() {
  CHECK(Witness::Install());
  CHECK(Witness::Install());
  void (*const tests[])() = {TellsAndFinds,    OneForEachThread, StopsBeforeItsSsl,
                             OutlivesItsSsl,   OutlivedByItsBio, Duplicated,
                             NeverGuesses,     OddMessages,      FreedElsewhere,
                             LeavesTheQueueOfErrors};
  for (auto* test : tests) {
    test();
    CHECK(Witness::LiveSsl() == 0 && Witness::LiveWatches() == 0);
  }
  printf("%zu passed on %s\n", sizeof tests / sizeof *tests, OpenSSL_version(OPENSSL_VERSION));
  return 0;
}
