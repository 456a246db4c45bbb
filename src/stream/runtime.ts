/** Whether this is Node itself. What is not documented of it is looked for nowhere else. */
export const IS_NODE = !('bun' in process.versions || 'deno' in process.versions);
