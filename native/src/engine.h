// The native engine's face for JavaScript: TLS on a descriptor, or fed with bytes. See engine.cc.

#ifndef CLOSE_NOTIFY_ENGINE_H_
#define CLOSE_NOTIFY_ENGINE_H_

#include <node_api.h>

namespace close_notify {

/** Puts the engine's members on `exports`. False: an exception is pending. */
bool DefineEngine(napi_env env, napi_value exports);

}  // namespace close_notify

#endif
