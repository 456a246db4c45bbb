export const client = (options) => async (to) => {
  const response = await fetch(`https://localhost:${to.port}/${to.body}`, options);
  return Buffer.from(await response.arrayBuffer());
};

export const exchange = client({});
