// What nearly every file here includes of PyTorch, compiled once by setup.py. Files include what they use all the same:
// each compiles without this.
#include <ATen/Context.h>
#include <ATen/ExpandUtils.h>
#include <ATen/TensorIterator.h>
#include <ATen/WrapDimUtils.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>
