// The native engine's face for JavaScript: TLS on a descriptor, or fed with bytes. See engine.cc.

#ifndef CLOSE_NOTIFY_ENGINE_H_
#define CLOSE_NOTIFY_ENGINE_H_

#include <node_api.h>

namespace close_notify {

/** Puts the engine's members on `exports`. False: an exception is pending. */
bool DefineEngine(napi_env env, napi_value exports);

/** How many objects of the engine live, on all threads. For tests. */
struct EngineCounts {
  int connections;
  /** Each with an SSL. */
  int sessions;
  int contexts;
};
EngineCounts LiveOfEngine();

}  // namespace close_notify

#endif
