"""The lessons as a site of pages that opens without a network, and as notebooks: python -m tutorials.pages --help"""
