// OpenSSL's queue of errors belongs to the thread: Node would take what it finds there for its own.

#ifndef CLOSE_NOTIFY_ERROR_QUEUE_H_
#define CLOSE_NOTIFY_ERROR_QUEUE_H_

#include <openssl/err.h>

namespace close_notify {

/** OpenSSL's queue of errors is empty at the beginning and at the end. */
class CleanErrorQueue {
 public:
  CleanErrorQueue() { ERR_clear_error(); }
  ~CleanErrorQueue() { ERR_clear_error(); }
  CleanErrorQueue(const CleanErrorQueue&) = delete;
  CleanErrorQueue& operator=(const CleanErrorQueue&) = delete;
};

}  // namespace close_notify

#endif
