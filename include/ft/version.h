/* The library's version, at compile time and at run time. */
#ifndef FT_VERSION_H
#define FT_VERSION_H

#include <ft/export.h>

#define FT_VERSION_MAJOR 0
#define FT_VERSION_MINOR 1
#define FT_VERSION_PATCH 0

FT_BEGIN_DECLS

/* The version of the library in use, as "major.minor.patch". The string is static. Any thread. */
FT_API const char *ft_version(void);

FT_END_DECLS

#endif /* FT_VERSION_H */
