#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <istream>
#include <string>

namespace ood {

/// Reads a NumPy array file: float16, float32, float64, integers and bool, C order, little endian.
/// DataError where it is foreign or short.
at::Tensor read_npy(const std::filesystem::path& path);
/// The same of a stream of `size` bytes, which errors call `name`.
at::Tensor read_npy(std::istream& in, std::uint64_t size, const std::string& name);

/// Writes float32, int64 or uint8 numbers in C order, as write_file does.
void write_npy(const std::filesystem::path& path, const at::Tensor& values);

}  // namespace ood
