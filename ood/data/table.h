#pragma once

#include <filesystem>

#include "ood/data/dataset.h"

namespace ood {

/// Whether a file is a table of numbers: CSV whose first line has no column `path`, as a list of
/// pictures has one.
bool is_table(const std::filesystem::path& path);

/// A sample a row: its class's name in the column `label`, where the table divides its samples the part
/// in `split` (see parts.h), and in all other columns with a name numbers, which are embeddings [N, D]
/// in their order; a column without a name is an index, which tells the order of the rows. Without test rows those of val are the test data, without both every fifth row of a class.
/// Labels that are whole
/// numbers with zeros behind a point are those numbers. DataError names line and column of what is no
/// finite number.
Dataset load_table(const std::filesystem::path& path);

/// The rows of a table, of one that is divided its test data.
Inputs load_table_inputs(const std::filesystem::path& path);

}  // namespace ood
