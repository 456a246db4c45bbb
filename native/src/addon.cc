// The JavaScript face of the witness, on N-API. What it shows is described in index.d.ts, how the
// witness comes to know it in witness.cc.
//
// Every environment (the main thread's, each worker's) has one Environment, N-API's instance data.
// A Watch has at most one JavaScript object at a time, so that a program may use it as a key. That
// object owns a Handle, the Handle a reference to the Watch; the Watch points back at the Handle,
// and does not own it.
// JavaScript is never called within an SSL call: what was ignored goes through a threadsafe function,
// which calls on a later turn of the event loop.

#include <node_api.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

#include <cmath>
#include <cstdio>
#include <new>

#include "engine.h"
#include "throwing.h"
#include "witness.h"

namespace {

using close_notify::Alert;
using close_notify::Fail;
using close_notify::Place;
using close_notify::ThrowType;
using close_notify::Watch;
using close_notify::Witness;

struct Environment {
  napi_env env = nullptr;
  Witness witness;
  napi_ref watch_class = nullptr;
  napi_threadsafe_function ignored = nullptr;
  /** What the constructor of Watch is to wrap: null where JavaScript calls it. */
  Watch* constructing = nullptr;
  BIO* trace = nullptr;
};

/**
 * One for each thread: a second one (another context of `node:vm`, as test runners make them) would find
 * nothing.
 */
thread_local Environment* of_thread = nullptr;

struct Handle {
  Watch* watch;
  napi_ref reference;
};

// Watch ------------------------------------------------------------------------------------------

void FinalizeHandle(napi_env env, void* data, void*) {
  Handle* handle = static_cast<Handle*>(data);
  // While this finalizer waited, the Watch may have been given a new object.
  if (handle->watch->handle == handle) handle->watch->handle = nullptr;
  // It can only fail for a null argument or an environment that is gone, and then there is no more
  // reference either.
  (void)napi_delete_reference(env, handle->reference);
  handle->watch->Release();
  delete handle;
}

napi_value ConstructWatch(napi_env env, napi_callback_info info) {
  napi_value self;
  void* data;
  TRY(napi_get_cb_info(env, info, nullptr, nullptr, &self, &data));
  Environment* environment = static_cast<Environment*>(data);
  Watch* watch = environment->constructing;
  environment->constructing = nullptr;
  if (watch == nullptr) {
    if (napi_throw_type_error(env, "ERR_ILLEGAL_CONSTRUCTOR", "Illegal constructor") != napi_ok) {
      return Fail(env);
    }
    return nullptr;
  }
  Handle* handle = new (std::nothrow) Handle{watch, nullptr};
  if (handle == nullptr) {
    if (napi_throw_error(env, nullptr, "Out of memory") != napi_ok) return Fail(env);
    return nullptr;
  }
  if (napi_wrap(env, self, handle, FinalizeHandle, nullptr, &handle->reference) != napi_ok) {
    delete handle;
    return Fail(env);
  }
  watch->Retain();
  watch->handle = handle;
  return self;
}

/** The JavaScript object of a Watch, made where there is none. */
napi_value ObjectOf(Environment* environment, Watch* watch) {
  napi_env env = environment->env;
  if (watch->handle != nullptr) {
    napi_value object = nullptr;
    TRY(napi_get_reference_value(env, static_cast<Handle*>(watch->handle)->reference, &object));
    if (object != nullptr) return object;
  }
  napi_value watch_class;
  TRY(napi_get_reference_value(env, environment->watch_class, &watch_class));
  napi_value object;
  environment->constructing = watch;
  const napi_status status = napi_new_instance(env, watch_class, 0, nullptr, &object);
  environment->constructing = nullptr;
  if (status != napi_ok) return Fail(env);
  return object;
}

/**
 * The Watch that a method was called on. Null: a TypeError was thrown. Node gives the methods of a class a signature: on
 * what its constructor has not made V8 throws by itself and does not call them.
 */
Watch* WatchOf(napi_env env, napi_value self) {
  void* data = nullptr;
  if (napi_unwrap(env, self, &data) != napi_ok || data == nullptr) {
    ThrowType(env, "Not called on a Watch");
    return nullptr;
  }
  return static_cast<Handle*>(data)->watch;
}

napi_value Born(napi_env env, napi_callback_info info) {
  napi_value self, value;
  TRY(napi_get_cb_info(env, info, nullptr, nullptr, &self, nullptr));
  Watch* watch = WatchOf(env, self);
  if (watch == nullptr) return nullptr;
  TRY(napi_create_double(env, watch->born(), &value));
  return value;
}

// Flags of an alert. It is told in numbers: an object for each took some 7 us, by profile, where a whole life as a server takes 430.
constexpr uint32_t kSent = 1;
constexpr uint32_t kAuthenticated = 2;
constexpr uint32_t kAlone = 4;

napi_value Alerts(napi_env env, napi_callback_info info) {
  size_t arguments = 1;
  napi_value argument, self, array;
  TRY(napi_get_cb_info(env, info, &arguments, &argument, &self, nullptr));
  Watch* watch = WatchOf(env, self);
  if (watch == nullptr) return nullptr;
  uint32_t known = 0;
  if (arguments > 0 && napi_get_value_uint32(env, argument, &known) != napi_ok) {
    return ThrowType(env, "alerts: 'known' must be a number");
  }
  const uint32_t count = static_cast<uint32_t>(watch->alert_count());
  if (known >= count) {
    TRY(napi_get_null(env, &array));
    return array;
  }
  TRY(napi_create_array_with_length(env, 2 * (count - known), &array));
  for (uint32_t index = 0; index < count - known; index++) {
    const Alert& alert = watch->alert(static_cast<int>(known + index));
    const uint32_t flags = (alert.sent ? kSent : 0) | (alert.authenticated ? kAuthenticated : 0) |
                           (alert.alone ? kAlone : 0);
    napi_value word, at;
    TRY(napi_create_uint32(env, flags << 16 | alert.level << 8 | alert.description, &word));
    TRY(napi_create_double(env, alert.at, &at));
    TRY(napi_set_element(env, array, 2 * index, word));
    TRY(napi_set_element(env, array, 2 * index + 1, at));
  }
  return array;
}

napi_value Pending(napi_env env, napi_callback_info info) {
  napi_value self, value;
  TRY(napi_get_cb_info(env, info, nullptr, nullptr, &self, nullptr));
  Watch* watch = WatchOf(env, self);
  if (watch == nullptr) return nullptr;
  size_t bytes = 0;
  if (watch->Pending(&bytes)) {
    TRY(napi_create_double(env, static_cast<double>(bytes), &value));
  } else {
    TRY(napi_get_null(env, &value));
  }
  return value;
}

napi_value WhereRead(napi_env env, napi_callback_info info) {
  napi_value self, value;
  TRY(napi_get_cb_info(env, info, nullptr, nullptr, &self, nullptr));
  Watch* watch = WatchOf(env, self);
  if (watch == nullptr) return nullptr;
  const char* word = nullptr;
  switch (watch->WhereRead()) {
    case Place::kNone:
      break;
    case Place::kUnknown:
      word = "unknown";
      break;
    case Place::kBoundary:
      word = "boundary";
      break;
    case Place::kHeader:
      word = "header";
      break;
    case Place::kBody:
      word = "body";
      break;
  }
  if (word == nullptr) {
    TRY(napi_get_null(env, &value));
  } else {
    TRY(napi_create_string_utf8(env, word, NAPI_AUTO_LENGTH, &value));
  }
  return value;
}

napi_value Retake(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument, self;
  void* data;
  TRY(napi_get_cb_info(env, info, &count, &argument, &self, &data));
  Environment* environment = static_cast<Environment*>(data);
  Watch* watch = WatchOf(env, self);
  if (watch == nullptr) return nullptr;
  napi_valuetype type;
  TRY(napi_typeof(env, argument, &type));
  if (type != napi_boolean) return ThrowType(env, "retake: 'trace' must be a boolean");
  bool trace;
  TRY(napi_get_value_bool(env, argument, &trace));
  if (trace && environment->trace == nullptr) {
    environment->trace = BIO_new_fp(stderr, BIO_NOCLOSE | BIO_FP_TEXT);
    if (environment->trace == nullptr) {
      ERR_clear_error();
      if (napi_throw_error(env, nullptr, "OpenSSL makes no BIO for stderr") != napi_ok) {
        return Fail(env);
      }
      return nullptr;
    }
  }
  watch->Retake(trace ? environment->trace : nullptr);
  return nullptr;
}

// The binding ------------------------------------------------------------------------------------

/** On a later turn of the event loop: tells of all connections that wait in the queue. */
void CallIgnored(napi_env env, napi_value callback, void* context, void*) {
  Environment* environment = static_cast<Environment*>(context);
  if (env == nullptr) return;  // the environment ends; Witness::Stop empties the queue
  while (Watch* watch = environment->witness.TakeIgnored()) {
    napi_handle_scope scope;
    if (!watch->ClosureIgnored()) {
      watch->Release();
      continue;
    }
    if (napi_open_handle_scope(env, &scope) != napi_ok) {
      watch->Release();
      return;
    }
    napi_value object = ObjectOf(environment, watch);
    watch->Release();
    napi_value undefined, error;
    bool thrown = false;
    if (object != nullptr && napi_get_undefined(env, &undefined) == napi_ok) {
      // A failure is looked at below, as an exception.
      (void)napi_call_function(env, undefined, callback, 1, &object, nullptr);
    }
    if (napi_is_exception_pending(env, &thrown) == napi_ok && thrown &&
        napi_get_and_clear_last_exception(env, &error) == napi_ok) {
      // What a callback throws is the program's to hear of, as from any other event.
      (void)napi_fatal_exception(env, error);
    }
    if (napi_close_handle_scope(env, scope) != napi_ok) return;
  }
}

/** Within an SSL call. */
void OnIgnored(void* argument) {
  Environment* environment = static_cast<Environment*>(argument);
  if (environment->ignored == nullptr) return;
  const napi_status status =
      napi_call_threadsafe_function(environment->ignored, nullptr, napi_tsfn_nonblocking);
  // It is closing, and must not be touched again.
  if (status != napi_ok) environment->ignored = nullptr;
}

/** Before the environment's handles are closed: from now on the hooks do nothing on this thread. */
void CleanUp(void* argument) {
  Environment* environment = static_cast<Environment*>(argument);
  environment->witness.Stop();
  if (environment->ignored != nullptr) {
    // It is closed with the environment in any case.
    (void)napi_release_threadsafe_function(environment->ignored, napi_tsfn_abort);
    environment->ignored = nullptr;
  }
  if (environment->trace != nullptr) {
    BIO_free(environment->trace);
    environment->trace = nullptr;
  }
}

void FinalizeEnvironment(napi_env env, void* data, void*) {
  Environment* environment = static_cast<Environment*>(data);
  if (environment->watch_class != nullptr) {
    // It can only fail for a null argument.
    (void)napi_delete_reference(env, environment->watch_class);
  }
  if (of_thread == environment) of_thread = nullptr;
  delete environment;
}

napi_value WatchThread(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value callback;
  void* data;
  TRY(napi_get_cb_info(env, info, &count, &callback, nullptr, &data));
  Environment* environment = static_cast<Environment*>(data);
  napi_valuetype type;
  TRY(napi_typeof(env, callback, &type));
  if (type != napi_function) return ThrowType(env, "watch: 'onIgnored' must be a function");
  if (environment->witness.running()) return nullptr;
  napi_value name;
  TRY(napi_create_string_utf8(env, "close-notify-native", NAPI_AUTO_LENGTH, &name));
  TRY(napi_create_threadsafe_function(env, callback, nullptr, name, 0, 1, nullptr, nullptr,
                                      environment, CallIgnored, &environment->ignored));
  // Hooks run in the reverse order of their making: ours before that of the threadsafe function.
  if (napi_unref_threadsafe_function(env, environment->ignored) != napi_ok ||
      napi_add_env_cleanup_hook(env, CleanUp, environment) != napi_ok) {
    Fail(env);
    (void)napi_release_threadsafe_function(environment->ignored, napi_tsfn_abort);
    environment->ignored = nullptr;
    return nullptr;
  }
  // It cannot fail: only the thread's one Environment comes here.
  (void)environment->witness.Start(OnIgnored, environment);
  return nullptr;
}

napi_value Find(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument, value;
  void* data;
  TRY(napi_get_cb_info(env, info, &count, &argument, nullptr, &data));
  Environment* environment = static_cast<Environment*>(data);
  bool is_typedarray = false;
  TRY(napi_is_typedarray(env, argument, &is_typedarray));
  napi_typedarray_type type = napi_int8_array;
  size_t length = 0;
  void* bytes = nullptr;
  if (is_typedarray) {
    TRY(napi_get_typedarray_info(env, argument, &type, &length, &bytes, nullptr, nullptr));
  }
  if (!is_typedarray || type != napi_uint8_array) {
    return ThrowType(env, "find: 'finished' must be a Uint8Array");
  }
  Watch* watch = bytes == nullptr
                     ? nullptr
                     : environment->witness.Find(static_cast<const uint8_t*>(bytes), length);
  if (watch == nullptr) {
    TRY(napi_get_null(env, &value));
    return value;
  }
  value = ObjectOf(environment, watch);
  watch->Release();
  return value;
}

napi_value Mark(napi_env env, napi_callback_info info) {
  void* data;
  TRY(napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data));
  napi_value value;
  TRY(napi_create_double(
      env, static_cast<double>(static_cast<Environment*>(data)->witness.Mark()), &value));
  return value;
}

napi_value Since(napi_env env, napi_callback_info info) {
  size_t count = 1;
  napi_value argument, array;
  void* data;
  TRY(napi_get_cb_info(env, info, &count, &argument, nullptr, &data));
  Environment* environment = static_cast<Environment*>(data);
  napi_valuetype type;
  TRY(napi_typeof(env, argument, &type));
  if (type != napi_number) return ThrowType(env, "since: 'mark' must be a number");
  double mark;
  TRY(napi_get_value_double(env, argument, &mark));
  if (!(mark >= 0 && mark <= 9007199254740991.0 && std::floor(mark) == mark)) {
    if (napi_throw_range_error(env, "ERR_OUT_OF_RANGE", "since: 'mark' is none of mark()'s") !=
        napi_ok) {
      return Fail(env);
    }
    return nullptr;
  }
  TRY(napi_create_array(env, &array));
  uint32_t index = 0;
  bool failed = false;
  for (Watch* watch : environment->witness.Since(static_cast<uint64_t>(mark))) {
    if (!failed) {
      napi_value object = ObjectOf(environment, watch);
      failed = object == nullptr || napi_set_element(env, array, index++, object) != napi_ok;
    }
    watch->Release();
  }
  return failed ? Fail(env) : array;
}

napi_value Live(napi_env env, napi_callback_info) {
  napi_value object;
  TRY(napi_create_object(env, &object));
  const close_notify::EngineCounts engine = close_notify::LiveOfEngine();
  const struct {
    const char* name;
    int count;
  } members[] = {
      {"ssl", Witness::LiveSsl()},          {"watches", Witness::LiveWatches()},
      {"connections", engine.connections},  {"sessions", engine.sessions},
      {"contexts", engine.contexts},
  };
  for (const auto& member : members) {
    napi_value count;
    TRY(napi_create_int32(env, member.count, &count));
    TRY(napi_set_named_property(env, object, member.name, count));
  }
  return object;
}

napi_property_descriptor Method(const char* name, napi_callback callback, Environment* data) {
  return {name, nullptr, callback, nullptr, nullptr, nullptr, napi_default_method, data};
}

napi_property_descriptor Text(const char* name, napi_value value) {
  return {name, nullptr, nullptr, nullptr, nullptr, value, napi_enumerable, nullptr};
}

}  // namespace

NAPI_MODULE_INIT() {
  if (!Witness::Install()) {
    if (napi_throw_error(env, nullptr, "OpenSSL takes no more hooks") != napi_ok) return Fail(env);
    return nullptr;
  }
  if (of_thread != nullptr) {
    if (napi_throw_error(env, nullptr, "another context of this thread has the add-on") != napi_ok) {
      return Fail(env);
    }
    return nullptr;
  }
  Environment* environment = new (std::nothrow) Environment();
  if (environment == nullptr) {
    if (napi_throw_error(env, nullptr, "Out of memory") != napi_ok) return Fail(env);
    return nullptr;
  }
  environment->env = env;
  if (napi_set_instance_data(env, environment, FinalizeEnvironment, nullptr) != napi_ok) {
    delete environment;
    return Fail(env);
  }
  of_thread = environment;
  const napi_property_descriptor methods[] = {
      Method("born", Born, environment),
      Method("alerts", Alerts, environment),
      Method("pending", Pending, environment),
      Method("place", WhereRead, environment),
      Method("retake", Retake, environment),
  };
  napi_value watch_class, version, openssl;
  TRY(napi_define_class(env, "Watch", NAPI_AUTO_LENGTH, ConstructWatch, environment,
                        sizeof methods / sizeof *methods, methods, &watch_class));
  TRY(napi_create_reference(env, watch_class, 1, &environment->watch_class));
  TRY(napi_create_string_utf8(env, CLOSE_NOTIFY_NATIVE_VERSION, NAPI_AUTO_LENGTH, &version));
  TRY(napi_create_string_utf8(env, OpenSSL_version(OPENSSL_VERSION_STRING), NAPI_AUTO_LENGTH,
                              &openssl));
  const napi_property_descriptor members[] = {
      Text("version", version),
      Text("openssl", openssl),
      Method("watch", WatchThread, environment),
      Method("find", Find, environment),
      Method("mark", Mark, environment),
      Method("since", Since, environment),
      Method("live", Live, environment),
  };
  TRY(napi_define_properties(env, exports, sizeof members / sizeof *members, members));
  napi_value engine;
  TRY(napi_create_object(env, &engine));
  if (!close_notify::DefineEngine(env, engine)) return Fail(env);
  TRY(napi_set_named_property(env, exports, "engine", engine));
  return exports;
}
