#pragma once

#include <filesystem>

#include "ood/data/dataset.h"

namespace ood {

/// Whether the folder holds the binary version of CIFAR-10 (data_batch_1.bin, test_batch.bin) or of
/// CIFAR-100 (train.bin, test.bin).
bool is_cifar_folder(const std::filesystem::path& folder);

/// Its pictures, uint8 [N, 3, 32, 32]; CIFAR-100 with the 100 fine labels. Names from
/// batches.meta.txt or fine_label_names.txt where present.
Dataset load_cifar(const std::filesystem::path& folder);

}  // namespace ood
