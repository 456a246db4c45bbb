// What the engine asks of the system about a socket's descriptor. See descriptor.cc.

#ifndef CLOSE_NOTIFY_DESCRIPTOR_H_
#define CLOSE_NOTIFY_DESCRIPTOR_H_

#include <cstddef>
#include <cstdint>

namespace close_notify {

/** A duplicate of the descriptor of a stream socket, which the caller closes. Negative: `problem` says why there is none. */
int DuplicateDescriptor(int descriptor, const char** problem);

void CloseDescriptor(int descriptor);

/** How many bytes came; 0 at their end; or an errno, negative: see `IsLater`. It does not wait. */
int64_t ReceiveFrom(int descriptor, uint8_t* data, size_t length);

/** How many bytes the kernel has taken, or an errno, negative. It does not wait, and raises no signal. */
int64_t SendTo(int descriptor, const uint8_t* data, size_t length);

/** Whether the call failed only because it would have had to wait. */
bool IsLater(int64_t result);

}  // namespace close_notify

#endif
