// What a reader makes of any bytes: a value or an ood::Error. Anything else is a finding.
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <vector>

#include "ood/data/arrays.h"
#include "ood/data/cifar.h"
#include "ood/data/class_list.h"
#include "ood/data/files.h"
#include "ood/data/idx.h"
#include "ood/data/manifest.h"
#include "ood/data/picture.h"
#include "ood/data/table.h"
#include "ood/data/tar.h"
#include "ood/errors.h"
#include "ood/train/curves.h"
#include "ood/train/description.h"
#include "ood/train/run_folder.h"
#include "ood/train/run_options.h"
#include "ood/train/safetensors.h"

namespace {

using Path = std::filesystem::path;

// A folder in which the file stands under these names.
Path folder_with(const Path& file, const std::vector<std::string>& names) {
  const Path folder = file.string() + ".folder";
  if (std::filesystem::create_directory(folder))
    for (const auto& name : names) std::filesystem::create_symlink(file, folder / name);
  return folder;
}

void idx(const Path& file, const std::string&) { ood::read_idx(file); }
void npy(const Path& file, const std::string&) { ood::load_npy_inputs(file); }
void npz(const Path& file, const std::string&) { ood::load_npz(file); }
void manifest(const Path& file, const std::string&) {
  const auto folder = folder_with(file, {"list.csv", "list.jsonl"});
  try {
    ood::load_manifest(folder / "list.csv", {});
  } catch (const ood::Error&) {
  }
  ood::load_manifest(folder / "list.jsonl", {});
}
void table(const Path& file, const std::string&) {
  ood::load_table(folder_with(file, {"table.csv"}) / "table.csv");
}
void tar(const Path& file, const std::string&) {
  ood::load_tar(folder_with(file, {"x-train.tar", "x-test.tar"}), {});
}
void picture(const Path& file, const std::string&) { ood::read_picture(file, {{}, 1 << 24}); }
void safetensors(const Path& file, const std::string&) { ood::read_safetensors(file); }
void json(const Path&, const std::string& text) {
  const auto value = ood::parse_json(text);
  if (!value.is_discarded()) (void)value.size();
}
void class_list(const Path&, const std::string& text) {
  ood::class_list(text, {"1", "2", "boot", "red, dark"});
  ood::class_list(text, {"boot", "coat"});
}
void cifar(const Path& file, const std::string&) {
  // The training part is of the same form.
  const auto folder = folder_with(file, {"data_batch_1.bin", "test_batch.bin", "batches.meta.txt"});
  ood::load_cifar(folder);
}
void config(const Path& file, const std::string&) {
  auto options = ood::read_config(file);
  ood::to_toml(options);
  options.resolve();
}
void metrics(const Path& file, const std::string&) {
  ood::training_curves(ood::read_metrics(folder_with(file, {"metrics.jsonl"})));
}
void description(const Path&, const std::string& text) {
  const auto json = ood::parse_json(text);
  if (!json.is_discarded()) ood::check_description(ood::description_of(json), 1000);
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
