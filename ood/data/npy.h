#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>

#include "ood/data/dataset.h"

namespace ood {

/// Reads a NumPy array file: float16, float32, float64, integers and bool, C order, little endian.
/// DataError where it is foreign or short.
at::Tensor read_npy(const std::filesystem::path& path);

/// Writes float32, int64 or uint8 numbers in C order, as write_file does.
void write_npy(const std::filesystem::path& path, const at::Tensor& values);

/// Of a folder of arrays: the names of its classes, one a line.
inline constexpr const char* kClassNames = "classes.txt";

/// Whether the folder holds arrays with labels, e.g. train.npy and train_labels.npy.
bool is_npy_folder(const std::filesystem::path& folder);

/// Embeddings [N, D] as float32 [N, D, 1, 1] (or pictures, uint8 [N, H, W] or [N, C, H, W]) with
/// integer labels [N]: files train*.npy and test*.npy, those with "label" in their name being the
/// labels; classes.txt, where it is there, names them. Without test files every fifth row of a class is test data.
Dataset load_npy_folder(const std::filesystem::path& folder);

/// The inputs of one array file.
Samples load_npy_inputs(const std::filesystem::path& path);

}  // namespace ood
