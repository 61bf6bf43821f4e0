# What pip installs beside the Python files: libood.so and the torch it was built against.
set_target_properties(ood PROPERTIES INSTALL_RPATH "$ORIGIN/../../torch/lib")
install(TARGETS ood LIBRARY DESTINATION ood/lib COMPONENT python)
install(FILES "${CMAKE_BINARY_DIR}/lib/torch_version.txt" DESTINATION ood/lib COMPONENT python)
