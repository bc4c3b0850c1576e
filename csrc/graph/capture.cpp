#include "graph/capture.h"

namespace rustorch {

bool capturing() {
  return false;
}
void* capture_allocate(size_t) {
  throw NotCapturable("no capture is under way");
}
uint64_t capture_random(uint64_t) {
  throw NotCapturable("no capture is under way");
}

}  // namespace rustorch
