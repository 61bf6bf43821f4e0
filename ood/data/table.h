#pragma once

#include <filesystem>

#include "ood/data/dataset.h"

namespace ood {

/// Whether a file is a table of numbers: CSV whose first line has no column `path`, as a list of
/// pictures has one.
bool is_table(const std::filesystem::path& path);

/// A sample a row: its class's name in the column `label`, where the table divides its samples the part
/// in `split` (see parts.h), and in all other columns numbers, which are embeddings [N, D] in their
/// order. Without test rows those of val are the test data, without both every fifth row of a class.
/// DataError names line and column of what is no finite number.
Dataset load_table(const std::filesystem::path& path);

/// The rows of a table without labels, of one with labels its test data.
Samples load_table_inputs(const std::filesystem::path& path);

}  // namespace ood
