#include "device/profiler.h"

// The registry's header hides itself without it, and kineto's headers format by fmt.
#define USE_KINETO
#define FMT_HEADER_ONLY 1
#include <torch/csrc/profiler/standalone/privateuse1_profiler.h>

#include <kineto/libkineto.h>
#include <kineto/output_base.h>

#include <pybind11/stl.h>

#include "bridge.h"
#include "rustorch-bridge/src/profile.rs.h"

namespace rustorch {
namespace {

namespace kineto = libkineto;

constexpr int64_t kDevice = 0;

kineto::InputShapes dims(const rust::Vec<ffi::KernelShape>& shapes) {
  kineto::InputShapes dims;
  for (const ffi::KernelShape& shape : shapes) {
    dims.emplace_back(std::vector<int64_t>(shape.sizes.begin(), shape.sizes.end()));
  }
  return dims;
}

std::vector<std::string> dtypes(const rust::Vec<ffi::KernelShape>& shapes) {
  std::vector<std::string> names;
  for (const ffi::KernelShape& shape : shapes) {
    names.emplace_back(shape.dtype);
  }
  return names;
}

// Puts what Rust has kept of one profile into kineto's trace: kernels on a device of their own, each
// tied to the op that launched it.
class Session final : public kineto::IActivityProfilerSession {
 public:
  ~Session() override {
    if (status_ == kineto::TraceStatus::RECORDING) {
      ffi::profile_stop_timeline();
    }
  }
  void start() override {
    through_door([] { return ffi::profile_take_events(); });  // What an abandoned session has left.
    ffi::profile_start_timeline();
    status_ = kineto::TraceStatus::RECORDING;
  }
  void stop() override {
    ffi::profile_stop_timeline();
    status_ = kineto::TraceStatus::PROCESSING;
  }
  std::vector<std::string> errors() override { return {}; }

  void pushCorrelationId(uint64_t id) override { ffi::profile_push_correlation(id); }
  void popCorrelationId() override { ffi::profile_pop_correlation(); }

  void processTrace(kineto::ActivityLogger& logger) override {
    processTrace(logger, nullptr, 0, std::numeric_limits<int64_t>::max());
  }
  void processTrace(kineto::ActivityLogger& logger, kineto::getLinkedActivityCallback linked, int64_t from,
                    int64_t to) override {
    buffer_ = std::make_unique<kineto::CpuTraceBuffer>();
    buffer_->span = kineto::TraceSpan(from, to, "rustorch");
    for (const ffi::KernelEvent& event : through_door([] { return ffi::profile_take_events(); })) {
      const auto start = static_cast<int64_t>(event.start);
      if (start < from || start > to) {
        continue;
      }
      buffer_->emplace_activity(buffer_->span, kineto::ActivityType::CONCURRENT_KERNEL,
                                "rustorch::" + std::string(event.totals.name));
      describe(*buffer_->activities.back(), event);
      if (linked && event.correlation != 0) {
        buffer_->activities.back()->linked = linked(static_cast<int32_t>(event.correlation));
      }
      threads_.insert(static_cast<int64_t>(event.thread));
      logger.handleActivity(*buffer_->activities.back());
    }
    buffer_->gpuOpCount = static_cast<int>(buffer_->activities.size());
  }

  std::unique_ptr<kineto::DeviceInfo> getDeviceInfo() override {
    return std::make_unique<kineto::DeviceInfo>(
        kineto::DeviceInfo{kDevice, kineto::kExceedMaxPid, "Rust kernels", "rustorch:0"});
  }
  std::vector<kineto::ResourceInfo> getResourceInfos() override {
    std::vector<kineto::ResourceInfo> lanes;
    for (const int64_t thread : threads_) {
      lanes.push_back({thread, thread, kDevice, "launched by thread " + std::to_string(thread)});
    }
    return lanes;
  }
  std::unique_ptr<kineto::CpuTraceBuffer> getTraceBuffer() override { return std::move(buffer_); }

 private:
  static void describe(kineto::GenericTraceActivity& activity, const ffi::KernelEvent& event) {
    const ffi::KernelTotals& totals = event.totals;
    activity.startTime = static_cast<int64_t>(event.start);
    activity.endTime = activity.startTime + static_cast<int64_t>(totals.nanoseconds);
    activity.device = kDevice;
    activity.resource = static_cast<int64_t>(event.thread);
    activity.id = static_cast<int32_t>(event.correlation);
    activity.flow.id = static_cast<uint32_t>(event.correlation);
    activity.flow.type = kineto::kLinkAsyncCpuGpu;
    activity.addTypedMetadata("Input Dims", dims(event.read));
    activity.addTypedMetadata("Input type", dtypes(event.read));
    activity.addTypedMetadata("Output Dims", dims(event.written));
    activity.addTypedMetadata("bytes", static_cast<int64_t>(totals.bytes));
    activity.addTypedMetadata("flops", static_cast<int64_t>(totals.flops));
    if (totals.nanoseconds > 0) {
      // An operation a nanosecond is a GFLOP/s.
      const auto nanoseconds = static_cast<double>(totals.nanoseconds);
      activity.addTypedMetadata("GFLOP/s", static_cast<double>(totals.flops) / nanoseconds);
      activity.addTypedMetadata("GB/s", static_cast<double>(totals.bytes) / nanoseconds);
    }
    if (!totals.source.empty()) {
      activity.addTypedMetadata("source", std::string(totals.source));
    }
  }

  std::unique_ptr<kineto::CpuTraceBuffer> buffer_;
  std::set<int64_t> threads_;
};

class Profiler final : public kineto::IActivityProfiler {
 public:
  const std::string& name() const override { return name_; }
  const std::set<kineto::ActivityType>& availableActivities() const override { return activities_; }
  std::unique_ptr<kineto::IActivityProfilerSession> configure(const std::set<kineto::ActivityType>& wanted,
                                                              const kineto::Config&) override {
    return wanted.count(kineto::ActivityType::CONCURRENT_KERNEL) > 0 ? std::make_unique<Session>() : nullptr;
  }
  std::unique_ptr<kineto::IActivityProfilerSession> configure(int64_t, int64_t,
                                                              const std::set<kineto::ActivityType>& wanted,
                                                              const kineto::Config& config) override {
    return configure(wanted, config);
  }

 private:
  std::string name_ = "rustorch";
  std::set<kineto::ActivityType> activities_ = {kineto::ActivityType::CONCURRENT_KERNEL};
};

REGISTER_PRIVATEUSE1_PROFILER(Profiler);

using Row = std::tuple<std::string, std::string, uint64_t, uint64_t, uint64_t, uint64_t>;

std::vector<Row> totals() {
  std::vector<Row> rows;
  for (const ffi::KernelTotals& kernel : through_door([] { return ffi::profile_totals(); })) {
    rows.emplace_back(std::string(kernel.name), std::string(kernel.source), kernel.calls, kernel.nanoseconds,
                      kernel.bytes, kernel.flops);
  }
  return rows;
}

std::pair<double, double> roofline() {
  const pybind11::gil_scoped_release unlocked;
  const ffi::Peaks peaks = through_door([] { return ffi::profile_roofline(); });
  return {peaks.flops, peaks.bytes};
}

}  // namespace

void bind_profiler(pybind11::module_& module) {
  module.def("profile_start", &ffi::profile_start_totals, "Begins to sum what each kernel takes.");
  module.def("profile_stop", &ffi::profile_stop_totals);
  module.def("profile_totals", &totals,
             "Name, source, calls, nanoseconds, bytes and operations of each kernel, over all that was summed.");
  module.def("roofline", &roofline, "The machine's peaks: operations and bytes a second.");
}

}  // namespace rustorch
