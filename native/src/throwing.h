// Throwing into JavaScript, for all that speaks N-API here.

#ifndef CLOSE_NOTIFY_THROWING_H_
#define CLOSE_NOTIFY_THROWING_H_

#include <node_api.h>

namespace close_notify {

/** Throws what N-API has to say of its last failure, unless something is thrown already. */
inline napi_value Fail(napi_env env) {
  const napi_extended_error_info* info = nullptr;
  const char* message = nullptr;
  if (napi_get_last_error_info(env, &info) == napi_ok && info != nullptr) {
    message = info->error_message;
  }
  bool pending = true;
  if (napi_is_exception_pending(env, &pending) == napi_ok && !pending) {
    // If this fails as well there is no way left to say so.
    (void)napi_throw_error(env, nullptr, message != nullptr ? message : "N-API call failed");
  }
  return nullptr;
}

inline napi_value ThrowType(napi_env env, const char* message) {
  if (napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", message) != napi_ok) return Fail(env);
  return nullptr;
}

}  // namespace close_notify

#define TRY(call) \
  do { \
    if ((call) != napi_ok) return Fail(env); \
  } while (false)

#endif
