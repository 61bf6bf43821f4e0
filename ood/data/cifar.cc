#include "ood/data/cifar.h"

#include <fstream>

#include "ood/data/class_list.h"
#include "ood/errors.h"
#include "ood/torch.h"

namespace ood {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kSide = 32, kPixels = 3 * kSide * kSide;

// A record is `labels` bytes of label, of which the last one counts, and the pixels by channel.
Samples read_records(const std::vector<fs::path>& files, std::int64_t labels) {
  std::vector<at::Tensor> pictures, classes;
  const std::int64_t record = labels + kPixels;
  for (const auto& path : files) {
    std::ifstream in(path, std::ios::binary);
    if (!in) throw DataError(path.string() + ": cannot be opened");
    const auto size = static_cast<std::int64_t>(fs::file_size(path));
    if (size == 0 || size % record != 0)
      throw DataError(path.string() + ": expected records of " + std::to_string(record) +
                      " bytes, got " + std::to_string(size) +
                      " bytes; the file is truncated or foreign");
    auto bytes = torch::empty({size / record, record}, torch::kUInt8);
    in.read(static_cast<char*>(bytes.data_ptr()), size);
    if (!in) throw DataError(path.string() + ": cannot be read");
    pictures.push_back(bytes.slice(1, labels).contiguous().view({-1, 3, kSide, kSide}));
    classes.push_back(bytes.select(1, labels - 1).to(torch::kLong));
  }
  return {torch::cat(pictures), torch::cat(classes)};
}

}  // namespace

bool is_cifar_folder(const fs::path& folder) {
  return fs::exists(folder / "data_batch_1.bin") ||
         (fs::exists(folder / "train.bin") && fs::exists(folder / "test.bin"));
}

Dataset load_cifar(const fs::path& folder) {
  Dataset d;
  const bool ten = fs::exists(folder / "data_batch_1.bin");
  if (ten) {
    std::vector<fs::path> batches;
    for (int i = 1; fs::exists(folder / ("data_batch_" + std::to_string(i) + ".bin")); ++i)
      batches.push_back(folder / ("data_batch_" + std::to_string(i) + ".bin"));
    d.train = read_records(batches, 1);
    d.test = read_records({folder / "test_batch.bin"}, 1);
    d.class_names = read_class_names(folder / "batches.meta.txt");
  } else {
    d.train = read_records({folder / "train.bin"}, 2);
    d.test = read_records({folder / "test.bin"}, 2);
    d.class_names = read_class_names(folder / "fine_label_names.txt");
  }
  return d;
}

}  // namespace ood
