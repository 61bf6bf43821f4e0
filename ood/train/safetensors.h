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
  bool checked = false;  ///< of a file that was read: it had a checksum, which was right

  /// The tensor of that name, or an undefined one.
  at::Tensor find(const std::string& name) const;
  /// The metadata of that key, or "".
  std::string text(const std::string& key) const;
  /// Whether it is whole and of the run of that name, which stands in its metadata.
  bool belongs_to(const std::string& run_id) const { return checked && text("run") == run_id; }
};

/// Writes as write_file does, with a checksum of the content in the metadata.
void write_safetensors(const std::filesystem::path& path, const TensorFile& file);

/// DataError where the file is missing, damaged or holds a type that is not supported: tensors lie
/// one after another without gaps, and a checksum, where there is one, is that of the content.
TensorFile read_safetensors(const std::filesystem::path& path);

}  // namespace ood
