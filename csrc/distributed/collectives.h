// torch.distributed on the device.
#pragma once

namespace rustorch {

// Sends the collectives of c10d that have a kernel for such devices to the CPU's, on aliases; once.
void bind_collectives();

}  // namespace rustorch
