#pragma once

#include <filesystem>

#include "ood/data/dataset.h"

namespace ood {

/// Of a folder of arrays: the names of its classes, one a line.
inline constexpr const char* kClassNames = "classes.txt";

/// Whether the folder holds arrays with labels, e.g. train.npy and train_labels.npy.
bool is_array_folder(const std::filesystem::path& folder);
/// Whether it holds arrays without labels, which are a class each.
bool is_folder_of_class_arrays(const std::filesystem::path& folder);

/// Embeddings [N, D] as float32 [N, D, 1, 1] (or pictures, uint8 [N, H, W], [N, C, H, W] or
/// [N, H, W, C], or squares [N, side * side]) with integer labels [N]: arrays whose names begin or
/// end with train, val and test, those with "label" or "target" in their name, or that begin with
/// "y_", being the labels. Without test arrays those of val are the test data, without both every fifth row of a class.
/// Of a folder of .npy files; classes.txt, where it is there, names the classes.
Dataset load_array_folder(const std::filesystem::path& folder);
/// The array in such a folder whose rows are the test data; none where every fifth row is that.
std::filesystem::path test_array(const std::filesystem::path& folder);
/// Of an .npz file, as numpy.savez writes it. DataError where the program is built without libzip.
Dataset load_npz(const std::filesystem::path& path);
/// Of a folder of one .npy file a class, named as the class; every fifth row is test data.
Dataset load_class_arrays(const std::filesystem::path& folder);

/// Of a data set with training data: without test data those of val are that, told of as `val`; without
/// both every fifth sample of a class of `train`.
void complete(Dataset& dataset, const std::string& train, const std::string& val);

/// The inputs of one array file.
Inputs load_npy_inputs(const std::filesystem::path& path);

}  // namespace ood
