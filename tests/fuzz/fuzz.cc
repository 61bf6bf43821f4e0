// What a reader makes of any bytes: a value or an ood::Error. Anything else is a finding.
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "ood/data/class_list.h"
#include "ood/data/files.h"
#include "ood/data/idx.h"
#include "ood/data/npy.h"
#include "ood/data/picture.h"
#include "ood/errors.h"
#include "ood/train/safetensors.h"

namespace {

using Path = std::filesystem::path;

void idx(const Path& file, const std::string&) { ood::read_idx(file); }
void npy(const Path& file, const std::string&) { ood::load_npy_inputs(file); }
void picture(const Path& file, const std::string&) { ood::read_picture(file); }
void safetensors(const Path& file, const std::string&) { ood::read_safetensors(file); }
void json(const Path&, const std::string& text) {
  const auto value = ood::parse_json(text);
  if (!value.is_discarded()) (void)value.size();
}
void class_list(const Path&, const std::string& text) {
  ood::class_list(text, {"1", "2", "boot", "red, dark"});
  ood::class_list(text, {"boot", "coat"});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  static const Path file = "/dev/shm/ood-fuzz-" + std::to_string(::getpid());
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
  try {
    OOD_READER(file, bytes);
  } catch (const ood::Error&) {
  }
  return 0;
}
