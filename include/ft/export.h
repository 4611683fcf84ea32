/* Symbol visibility and C linkage for every public declaration. Nothing else in libft is exported. */
#ifndef FT_EXPORT_H
#define FT_EXPORT_H

#if defined(__GNUC__)
#define FT_API __attribute__((visibility("default")))
#else
#define FT_API
#endif

#ifdef __cplusplus
#define FT_BEGIN_DECLS extern "C" {
#define FT_END_DECLS }
#else
#define FT_BEGIN_DECLS
#define FT_END_DECLS
#endif

#endif /* FT_EXPORT_H */
