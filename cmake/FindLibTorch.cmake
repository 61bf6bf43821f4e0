# Finds the C++ part of PyTorch inside a wheel or a LibTorch archive without asking for CUDA:
# targets LibTorch::torch_cpu and LibTorch::c10. The stock TorchConfig.cmake of a CUDA wheel fails
# without a matching toolkit, and we link only the CPU libraries.
#   LibTorch_ROOT   folder that holds include/ and lib/ (CMake or environment variable);
#                   default: the project's .deps/venv, then the python3 on PATH.
set(_ood_torch_hints ${LibTorch_ROOT} $ENV{LibTorch_ROOT} $ENV{OOD_LIBTORCH})
# pip builds for the Python it runs in, and against its torch.
if(NOT SKBUILD)
  file(GLOB _ood_torch_venv
       "${CMAKE_CURRENT_LIST_DIR}/../.deps/venv/lib/python3*/site-packages/torch")
  list(APPEND _ood_torch_hints ${_ood_torch_venv})
endif()
if(NOT _ood_torch_hints)
  find_package(Python3 QUIET COMPONENTS Interpreter)
  if(Python3_FOUND)
    # find_spec does not import torch, which takes seconds.
    execute_process(
      COMMAND ${Python3_EXECUTABLE} -c
              "import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
      OUTPUT_VARIABLE _ood_torch_python OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    list(APPEND _ood_torch_hints ${_ood_torch_python})
  endif()
endif()

find_path(LibTorch_INCLUDE_DIR torch/library.h HINTS ${_ood_torch_hints} PATH_SUFFIXES include
          NO_DEFAULT_PATH)
find_library(LibTorch_torch_cpu torch_cpu HINTS ${_ood_torch_hints} PATH_SUFFIXES lib NO_DEFAULT_PATH)
find_library(LibTorch_c10 c10 HINTS ${_ood_torch_hints} PATH_SUFFIXES lib NO_DEFAULT_PATH)

if(LibTorch_INCLUDE_DIR AND EXISTS "${LibTorch_INCLUDE_DIR}/torch/headeronly/version.h")
  file(READ "${LibTorch_INCLUDE_DIR}/torch/headeronly/version.h" _ood_torch_version)
elseif(LibTorch_INCLUDE_DIR)
  file(READ "${LibTorch_INCLUDE_DIR}/torch/csrc/api/include/torch/version.h" _ood_torch_version)
endif()
if(_ood_torch_version MATCHES "TORCH_VERSION_MAJOR ([0-9]+)")
  set(LibTorch_VERSION ${CMAKE_MATCH_1})
  string(REGEX MATCH "TORCH_VERSION_MINOR ([0-9]+)" _ "${_ood_torch_version}")
  string(APPEND LibTorch_VERSION ".${CMAKE_MATCH_1}")
  string(REGEX MATCH "TORCH_VERSION_PATCH ([0-9]+)" _ "${_ood_torch_version}")
  string(APPEND LibTorch_VERSION ".${CMAKE_MATCH_1}")
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(
  LibTorch
  REQUIRED_VARS LibTorch_torch_cpu LibTorch_c10 LibTorch_INCLUDE_DIR
  VERSION_VAR LibTorch_VERSION HANDLE_VERSION_RANGE)

if(LibTorch_FOUND AND NOT TARGET LibTorch::torch_cpu)
  get_filename_component(LibTorch_LIB_DIR "${LibTorch_torch_cpu}" DIRECTORY)
  foreach(_ood_lib c10 torch_cpu)
    add_library(LibTorch::${_ood_lib} SHARED IMPORTED)
    set_target_properties(
      LibTorch::${_ood_lib}
      PROPERTIES IMPORTED_LOCATION "${LibTorch_${_ood_lib}}"
                 INTERFACE_INCLUDE_DIRECTORIES
                 "${LibTorch_INCLUDE_DIR};${LibTorch_INCLUDE_DIR}/torch/csrc/api/include"
                 INTERFACE_COMPILE_FEATURES cxx_std_20)
  endforeach()
  set_property(TARGET LibTorch::torch_cpu PROPERTY INTERFACE_LINK_LIBRARIES LibTorch::c10)
endif()
mark_as_advanced(LibTorch_INCLUDE_DIR LibTorch_torch_cpu LibTorch_c10)
