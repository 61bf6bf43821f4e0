#pragma once

#include <c10/util/Exception.h>

#include <stdexcept>
#include <string>

/// What can go wrong for a user. Names of options stand in backquotes: "`known`: expected ...".
namespace ood {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Options ask for something that does not exist.
struct UsageError : Error {
  using Error::Error;
};
/// A file is missing, damaged or not what was expected.
struct DataError : Error {
  using Error::Error;
};
/// The training produced a loss that is not a number.
struct DivergedError : Error {
  using Error::Error;
};
/// The user stopped the training; it can be resumed.
struct Interrupted : Error {
  using Error::Error;
};

/// The processes of a training did not find one another, or one of them ended or hangs.
struct DistributedError : Error {
  using Error::Error;
};

/// What `body` gives; what LibTorch throws in it becomes an error of that kind.
template <class E, class Body>
decltype(auto) with_errors_as(const Body& body) {
  try {
    return body();
  } catch (const c10::Error& e) {
    throw E(e.what_without_backtrace());
  }
}

/// Whether LibTorch's words say so, of the memory of the CPU or of another device.
inline bool is_out_of_memory(const std::string& what) {
  return what.find("allocate memory") != std::string::npos ||
         what.find("out of memory") != std::string::npos;
}

}  // namespace ood
