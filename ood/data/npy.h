#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <functional>
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
/// The same of [rows, ...], whose rows `content` gives part by part to what it is called with: at
/// least one part.
using PutRows = std::function<void(const at::Tensor&)>;
void write_npy(const std::filesystem::path& path, std::int64_t rows,
               const std::function<void(const PutRows&)>& content);

}  // namespace ood
