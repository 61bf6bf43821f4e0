#include "ood/models/package_network.h"

#include <sys/utsname.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "ood/data/checksum.h"
#include "ood/errors.h"
#include "ood/models/network_notes.h"

namespace ood {
namespace {

using Loader = torch::inductor::AOTIModelPackageLoader;
using Metadata = std::unordered_map<std::string, std::string>;
namespace fs = std::filesystem;

constexpr const char* kModel = "model";  // the name of the one that a package has by default

std::string size_text(std::int64_t channels, std::int64_t height, std::int64_t width) {
  return std::to_string(channels) + "x" + std::to_string(height) + "x" + std::to_string(width);
}

// The loader compares no checksums, and runs what it finds. The comment at the end of the archive is
// the CRC-32 of all before it.
void check_whole(const fs::path& file) {
  constexpr std::uint64_t kSeal = 12;  // "ood:" and eight digits
  std::error_code none;
  const auto size = fs::file_size(file, none);
  std::ifstream in(file, std::ios::binary);
  std::string start(2, ' '), seal(kSeal, ' ');
  if (!in) throw UsageError(file.string() + ": cannot be opened");
  in.read(start.data(), 2);
  if (none || !in || start != "PK" || size < kSeal)
    throw UsageError(file.string() + ": expected a package of AOTInductor" + kRemedy);
  in.seekg(static_cast<std::streamoff>(size - kSeal));
  in.read(seal.data(), kSeal);
  if (!in || seal != "ood:" + checksum_of(file, size - kSeal))
    throw UsageError(file.string() + ": damaged, or of another maker" + kRemedy);
}

Metadata about(const fs::path& file) {
  check_whole(file);
  try {
    return Loader::load_metadata_from_package(file.string(), kModel);
  } catch (const std::exception& e) {  // it is unpacked into TMPDIR, which may be full
    throw UsageError(file.string() + ": cannot be unpacked: " + first_line(e.what()));
  }
}

std::string value(const Metadata& said, const char* key) {
  const auto at = said.find(key);
  return at == said.end() ? "" : at->second;
}

NetworkNotes notes_in(const Metadata& said, const fs::path& file) {
  const auto notes = parse_notes(value(said, "ood"));
  const auto side = [](std::int64_t n) { return n >= 1 && n <= 1 << 16; };
  if (!side(notes.channels) || !side(notes.height) || !side(notes.width))
    throw UsageError(file.string() + ": does not say what inputs it takes" + kRemedy);
  return notes;
}

// By the kernel's names; empty where it does not say.
std::string processor_flags() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.rfind("flags", 0) == 0 || line.rfind("Features", 0) == 0) return line + " ";
  return "";
}

// Code for instructions that a processor does not have ends the program without a word.
void check_machine(const Metadata& said, const fs::path& file) {
  const auto refuse = [&](const std::string& needs) {
    throw UsageError(file.string() + ": its machine code needs " + needs +
                     ", which this machine does not have; make it here, or with another --simd");
  };
  if (const auto device = value(said, "AOTI_DEVICE_KEY"); device != "cpu")
    throw UsageError(file.string() + ": expected machine code for the CPU, got " + device);
  utsname machine;
  if (uname(&machine) == 0 && value(said, "AOTI_MACHINE") != machine.machine)
    refuse(value(said, "AOTI_MACHINE"));
  const auto flags = processor_flags();
  std::istringstream words(value(said, "AOTI_CPU_ISA"));
  for (std::string word; !flags.empty() && words >> word;) {
    std::string flag = word;
    std::transform(flag.begin(), flag.end(), flag.begin(), ::tolower);
    if (flag == "avx512") flag = "avx512vl";
    if (flags.find(" " + flag + " ") == std::string::npos) refuse(word);
  }
}

class PackageNetwork : public Classifier {
 public:
  PackageNetwork(const fs::path& file, const NetworkShape& shape) {
    const auto said = about(file);
    takes_ = notes_in(said, file);
    check_shape(shape, file.filename().string());
    check_machine(said, file);
    try {
      code_ = std::make_unique<Loader>(file.string(), kModel);
    } catch (const std::exception& e) {
      throw UsageError(file.string() + ": cannot be loaded: " + first_line(e.what()));
    }
    at::Tensor features;
    try {
      features = embed(torch::zeros({kRowsTried, takes_.channels, takes_.height, takes_.width}));
    } catch (const Error& e) {
      throw UsageError(e.what());
    }
    check_features(features);
    make_head(features.size(1), shape);
    freeze();
  }

 private:
  void check_shape(const NetworkShape& shape, const std::string& name) const {
    const bool other = shape.height != takes_.height || shape.width != takes_.width;
    if (!other && shape.channels == takes_.channels) return;
    throw UsageError("`model`: expected inputs of " +
                     size_text(takes_.channels, takes_.height, takes_.width) + ", which " + name +
                     " is made for, got " + size_text(shape.channels, shape.height, shape.width) +
                     (other && takes_.height == takes_.width && shape.height > 1
                          ? "; set `image-size` " + std::to_string(takes_.height)
                          : ""));
  }

  at::Tensor embed(const at::Tensor& inputs) override {
    const torch::NoGradGuard no_grad;
    // Within the code there is no cast to another type.
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    // It reads as many numbers as it was made for, whatever it is given.
    if (inputs.dim() != 4 || inputs.size(1) != takes_.channels || inputs.size(2) != takes_.height ||
        inputs.size(3) != takes_.width)
      throw Error("`model`: expected inputs of " +
                  size_text(takes_.channels, takes_.height, takes_.width) + ", got " +
                  c10::str(inputs.sizes()));
    if (!inputs.device().is_cpu()) throw Error("its machine code is for the CPU");
    // Nor was it made for none.
    if (inputs.size(0) == 0) return torch::zeros({0, features()}, inputs.options());
    try {
      const auto outputs = code_->run({inputs.to(torch::kFloat).contiguous()});
      return outputs.at(0).to(inputs.scalar_type());
    } catch (const std::exception& e) {
      if (is_out_of_memory(e.what())) throw std::bad_alloc();
      throw Error("`model`: the network fails: " + first_line(e.what()));
    }
  }

  NetworkNotes takes_;
  std::unique_ptr<Loader> code_;
};

}  // namespace

NetworkNotes package_notes(const fs::path& file) { return notes_in(about(file), file); }

std::shared_ptr<Classifier> make_package_network(const fs::path& file, const NetworkShape& shape) {
  return std::make_shared<PackageNetwork>(file, shape);
}

}  // namespace ood
