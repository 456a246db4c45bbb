// What workers are given by `--require` (offspring.ts). The thread that Node makes for hooks of `module.register`
// inherits the flag; on Node 22 nothing that is an ES module can be required there.
try {
  // biome-ignore lint/correctness/useImportExtensions: it is read as it is, beside what was built.
  require('./register.js');
} catch (error) {
  if (error.code !== 'ERR_METHOD_NOT_IMPLEMENTED') throw error;
}
