# The scheduler alone: what it links has no backend, and it is compiled where no header lies but those that it may include,
# so that a stray include or call fails the build.
set(FT_SCHEDULER_HEADERS ${CMAKE_CURRENT_BINARY_DIR}/scheduler_headers)
file(MAKE_DIRECTORY ${FT_SCHEDULER_HEADERS}/runtime)
foreach(folder IN ITEMS core decode runtime/plan runtime/scheduler)
  file(CREATE_LINK ${PROJECT_SOURCE_DIR}/libft/${folder} ${FT_SCHEDULER_HEADERS}/${folder} SYMBOLIC)
endforeach()
file(GLOB FT_SCHEDULER_SOURCES CONFIGURE_DEPENDS
  ${PROJECT_SOURCE_DIR}/libft/decode/*.cc ${PROJECT_SOURCE_DIR}/libft/runtime/plan/*.cc
  ${PROJECT_SOURCE_DIR}/libft/runtime/scheduler/*.cc)
add_library(ft_scheduler STATIC ${FT_SCHEDULER_SOURCES} ${PROJECT_SOURCE_DIR}/libft/api/status.cc)
target_include_directories(ft_scheduler PUBLIC ${FT_SCHEDULER_HEADERS} ${PROJECT_SOURCE_DIR}/include)
set_source_files_properties(${PROJECT_SOURCE_DIR}/libft/api/status.cc PROPERTIES
  INCLUDE_DIRECTORIES ${PROJECT_SOURCE_DIR}/libft)
target_compile_options(ft_scheduler PUBLIC -Wall -Wextra -Wno-missing-field-initializers -fno-math-errno)
target_link_libraries(ft_scheduler PUBLIC Threads::Threads)

file(GLOB FT_TEST_SOURCES CONFIGURE_DEPENDS scheduler/*.cc)
add_executable(test_scheduler ${FT_TEST_SOURCES} main.cc)
target_link_libraries(test_scheduler PRIVATE ft_scheduler)
target_include_directories(test_scheduler PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
add_test(NAME scheduler COMMAND test_scheduler)
set_tests_properties(scheduler PROPERTIES TIMEOUT 900)
