#pragma once

#include <stdexcept>
#include <string>

/// What can go wrong for a user of the program; each kind has its exit status.
namespace ood {

struct Error : std::runtime_error {
  int status;
  Error(int status_, const std::string& what) : std::runtime_error(what), status(status_) {}
};

/// The command line or configuration asks for something that does not exist.
struct UsageError : Error {
  explicit UsageError(const std::string& what) : Error(2, what) {}
};
/// A file is missing, damaged or not what was expected.
struct DataError : Error {
  explicit DataError(const std::string& what) : Error(3, what) {}
};
/// The training produced a loss that is not a number.
struct DivergedError : Error {
  explicit DivergedError(const std::string& what) : Error(4, what) {}
};

/// The user stopped the training; it can be resumed.
struct Interrupted : Error {
  explicit Interrupted(const std::string& what) : Error(130, what) {}
};

}  // namespace ood
