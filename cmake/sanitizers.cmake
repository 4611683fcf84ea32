# FT_SANITIZE=address,undefined or thread: for the library, the tests and the examples alike. Instrumented kernels take
# an age to optimise, so they are not.
set(FT_KERNEL_OPTIMIZATION -O3)
if(FT_SANITIZE)
  add_compile_options(-fsanitize=${FT_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all -g)
  add_link_options(-fsanitize=${FT_SANITIZE})
  set(FT_KERNEL_OPTIMIZATION -O1)
endif()
