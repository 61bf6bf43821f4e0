#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace ood {

/// Tensors by name, in order, and free text beside them: the safetensors format (8 bytes of header
/// length, JSON header, raw numbers), readable from Python without running code.
struct TensorFile {
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  std::map<std::string, std::string> metadata;

  /// The tensor of that name, or an undefined one.
  at::Tensor find(const std::string& name) const;
};

/// Writes under a temporary name and renames, so that the file is whole or not there. DataError
/// where it cannot be written.
void write_safetensors(const std::filesystem::path& path, const TensorFile& file);

/// DataError where the file is missing, damaged or holds a type that is not supported.
TensorFile read_safetensors(const std::filesystem::path& path);

/// Writes text in the same whole-or-not-at-all way.
void write_file(const std::filesystem::path& path, const std::string& text);

}  // namespace ood
