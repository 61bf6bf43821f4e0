# `cmake --install`: program, libraries, headers, and find_package(ood CONFIG) with ood::ood.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

get_filename_component(OOD_LIBTORCH_DIR "${LibTorch_INCLUDE_DIR}" DIRECTORY)
set(config_dir "${CMAKE_INSTALL_LIBDIR}/cmake/ood")

# One name for all of it; ood::core is what Python loads.
add_library(ood_all INTERFACE)
target_link_libraries(ood_all INTERFACE ood ood_train)
set_target_properties(ood PROPERTIES EXPORT_NAME core)
set_target_properties(ood_train PROPERTIES EXPORT_NAME train)
set_target_properties(ood_all PROPERTIES EXPORT_NAME ood)
set_target_properties(
  ood ood_train ood_program
  PROPERTIES INSTALL_RPATH "$ORIGIN;$ORIGIN/../${CMAKE_INSTALL_LIBDIR};${OOD_LIBTORCH_DIR}/lib")

install(TARGETS ood ood_train ood_all EXPORT oodTargets
        LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
        INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
install(TARGETS ood_program RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
install(TARGETS ood_waiting LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/ood" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
        FILES_MATCHING PATTERN "*.h" PATTERN "*-inl.h" EXCLUDE)
install(FILES "${PROJECT_BINARY_DIR}/include/ood/objectives/all.h"
        DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/ood/objectives")
install(EXPORT oodTargets NAMESPACE ood:: DESTINATION "${config_dir}")

configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/oodConfig.cmake.in"
                              "${CMAKE_CURRENT_BINARY_DIR}/oodConfig.cmake"
                              INSTALL_DESTINATION "${config_dir}")
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/oodConfigVersion.cmake"
                                 COMPATIBILITY SameMinorVersion)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/oodConfig.cmake"
              "${CMAKE_CURRENT_BINARY_DIR}/oodConfigVersion.cmake"
              "${CMAKE_CURRENT_LIST_DIR}/FindLibTorch.cmake" DESTINATION "${config_dir}")
