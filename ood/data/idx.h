#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

namespace ood {

/// Reads an idx file, plain or gzip: the format of MNIST. Only unsigned bytes, one to four
/// dimensions. Returns a uint8 tensor of the file's shape; DataError where the file is missing,
/// foreign or short.
at::Tensor read_idx(const std::filesystem::path& path);

}  // namespace ood
