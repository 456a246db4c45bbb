// A socket's descriptor, on systems that have them.
//
// On Windows a socket is a handle that libuv reads by completion ports, and nobody else can: there the engine is always
// fed. So it is where CLOSE_NOTIFY_NO_DESCRIPTORS is defined, which the tests do to see that this compiles.

#include "descriptor.h"

#ifdef _WIN32
#define CLOSE_NOTIFY_NO_DESCRIPTORS
#endif

#include <cerrno>

#ifndef CLOSE_NOTIFY_NO_DESCRIPTORS
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#endif

namespace close_notify {

#ifdef CLOSE_NOTIFY_NO_DESCRIPTORS

int DuplicateDescriptor(int, const char** problem) {
  *problem = "this system's sockets have no descriptor that can be polled";
  return -1;
}

// Without a descriptor none of these is called.
void CloseDescriptor(int) {}
int64_t ReceiveFrom(int, uint8_t*, size_t) { return -ENOSYS; }
int64_t SendTo(int, const uint8_t*, size_t) { return -ENOSYS; }
bool IsLater(int64_t) { return false; }

#else

namespace {

// macOS has SO_NOSIGPIPE for the socket instead. (Node ignores the signal; a program that embeds it may not.)
#ifdef MSG_NOSIGNAL
constexpr int kSendFlags = MSG_NOSIGNAL;
#else
constexpr int kSendFlags = 0;
#endif

}  // namespace

int DuplicateDescriptor(int descriptor, const char** problem) {
  int type = 0;
  socklen_t length = sizeof type;
  if (getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &length) != 0 || type != SOCK_STREAM) {
    *problem = "the descriptor is no stream socket";
    return -1;
  }
  const int duplicate = fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
  if (duplicate < 0) {
    *problem = "no duplicate of the descriptor can be made";
    return -1;
  }
#if !defined(MSG_NOSIGNAL) && defined(SO_NOSIGPIPE)
  const int on = 1;
  if (setsockopt(duplicate, SOL_SOCKET, SO_NOSIGPIPE, &on, sizeof on) != 0) {
    (void)close(duplicate);
    *problem = "the socket would raise SIGPIPE";
    return -1;
  }
#endif
  return duplicate;
}

// Behind a failure, even EINTR, the descriptor is gone, or another one by now: it is not closed again.
void CloseDescriptor(int descriptor) { (void)close(descriptor); }

int64_t ReceiveFrom(int descriptor, uint8_t* data, size_t length) {
  for (;;) {
    const ssize_t received = recv(descriptor, data, length, 0);
    if (received >= 0) return received;
    if (errno != EINTR) return -errno;
  }
}

int64_t SendTo(int descriptor, const uint8_t* data, size_t length) {
  for (;;) {
    const ssize_t sent = send(descriptor, data, length, kSendFlags);
    if (sent >= 0) return sent;
    if (errno != EINTR) return -errno;
  }
}

bool IsLater(int64_t result) { return result == -EAGAIN || result == -EWOULDBLOCK; }

#endif

}  // namespace close_notify
