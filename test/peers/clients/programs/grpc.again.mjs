import { client } from './grpc.mjs';

const call = client({});

/** A service config's policy: repeats calls that end with this status. */
const policy = (status) => {
  const retryPolicy = {
    maxAttempts: 3,
    initialBackoff: '0.01s',
    maxBackoff: '0.01s',
    backoffMultiplier: 1,
    retryableStatusCodes: [status],
  };
  const config = { loadBalancingConfig: [], methodConfig: [{ name: [{}], retryPolicy }] };
  return client({ 'grpc.service_config': JSON.stringify(config) });
};

export const again = {
  'a call': call,
  'a call, before its headers': call,
  'one with a `retryPolicy` for UNAVAILABLE, before its headers': policy('UNAVAILABLE'),
  'one with a `retryPolicy` for INTERNAL, before its headers': policy('INTERNAL'),
  'one with a `retryPolicy` for INTERNAL': policy('INTERNAL'),
};
