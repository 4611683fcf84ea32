# What is installed: the library, the headers, the CMake package (find_package(ft CONFIG) -> ft::ft) and ft.pc, each
# found from where the others lie, so that the whole may be moved. A wheel has the same layout below pyft/.
include(CMakePackageConfigHelpers)

set(FT_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/ft)
set(FT_PKGCONFIG_DIR ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

install(TARGETS ft EXPORT ftTargets COMPONENT library
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY include/ft DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development FILES_MATCHING PATTERN "*.h")

install(EXPORT ftTargets NAMESPACE ft:: DESTINATION ${FT_CMAKE_DIR} COMPONENT development)
configure_package_config_file(cmake/ftConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/ftConfig.cmake
  INSTALL_DESTINATION ${FT_CMAKE_DIR} NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/ftConfigVersion.cmake COMPATIBILITY SameMajorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/ftConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/ftConfigVersion.cmake
  DESTINATION ${FT_CMAKE_DIR} COMPONENT development)

# ft.pc names its prefix relative to its own folder.
cmake_path(ABSOLUTE_PATH FT_PKGCONFIG_DIR BASE_DIRECTORY ${CMAKE_INSTALL_PREFIX} OUTPUT_VARIABLE FT_PC_FOLDER)
foreach(folder IN ITEMS INCLUDEDIR LIBDIR)
  cmake_path(ABSOLUTE_PATH CMAKE_INSTALL_${folder} BASE_DIRECTORY ${CMAKE_INSTALL_PREFIX} OUTPUT_VARIABLE absolute)
  cmake_path(RELATIVE_PATH absolute BASE_DIRECTORY ${FT_PC_FOLDER} OUTPUT_VARIABLE FT_PC_${folder})
endforeach()
# No loader looks into a wheel's folder by itself, so programs linked by its ft.pc carry the folder's name.
if(SKBUILD)
  set(FT_PC_RPATH " -Wl,-rpath,\${libdir}")
endif()
configure_file(cmake/ft.pc.in ${CMAKE_CURRENT_BINARY_DIR}/ft.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/ft.pc DESTINATION ${FT_PKGCONFIG_DIR} COMPONENT development)
