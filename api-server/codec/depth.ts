/** How deep a body may nest, whatever its format; every decoder of this room refuses more, so that nothing behind it needs to fear recursion. */
export const MAX_DEPTH = 256;
