// Streams and events of a device that has finished when a call returns.
#pragma once

#include <cstdint>

namespace rustorch {

// PyTorch gives each accelerator a thread of its own for backward. This device computes on the
// thread that calls, so backward does so too: cheaper by two hand-overs, under the caller's thread
// count, and possible in a forked child. `claim_autograd_engine` lets the engine start without
// threads for rustorch; it is called once in each process.
void claim_autograd_engine();

}  // namespace rustorch
