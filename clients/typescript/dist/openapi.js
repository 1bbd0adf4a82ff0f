// Made of openapi.yaml by build.mjs.
export {};
